"""What sets the size of the steps: stability, rounding, or the tolerance."""

from __future__ import annotations

from .anatomy import Anatomy
from .verdict import Verdict

_AT_THE_LIMIT = 0.5  # of the stability size: measured, stiff problems have 0.9 to 1.0 in the median, others at most 0.1
_MANY = 50  # accepted steps: fewer are no reason to look for a remedy


def stability(anatomy: Anatomy) -> Verdict | None:
    """Steps as large as the method is stable for: the problem is stiff."""
    import numpy as np

    ratio = anatomy.stability[anatomy.accepted]
    known = ratio[np.isfinite(ratio)]
    if known.size < 5 or float(np.median(known)) < _AT_THE_LIMIT:
        return None
    return Verdict(
        "stability",
        f"|h| S is {np.median(known):.2f} of the stability size of the method in the median: the problem is stiff, and "
        "a smaller error would not make the steps larger.",
        "Take an implicit solver (for an ODE `diffrax.Kvaerno5`), or train with the `Stiffness` term.",
        float(np.mean(known >= _AT_THE_LIMIT)),
    )


def rounding(anatomy: Anatomy) -> Verdict | None:
    """A tolerance below the rounding of the state."""
    facts = anatomy.facts
    if facts.rtol is None or facts.atol is None or facts.rounding is None:
        return None
    tolerance = facts.rtol + facts.atol
    if tolerance >= facts.rounding:
        return None
    return Verdict(
        "rounding",
        f"The tolerance rtol={facts.rtol:.2g}, atol={facts.atol:.2g} is below the rounding of a state of size one in "
        f"{facts.dtype}, {facts.rounding:.1g}: steps are taken for digits that the state does not have.",
        f"Solve in float64, or with a tolerance of {2 * facts.rounding:.0e} or more.",
        1.0,
    )


def accuracy(anatomy: Anatomy) -> Verdict | None:
    """Many steps, each as large as the tolerance allows, far from the limit of stability."""
    import numpy as np

    error = anatomy.local_error[anatomy.accepted]
    if error.size < _MANY or not np.isfinite(error).all() or float(np.median(error)) < 0.1:
        return None
    ratio = anatomy.stability[anatomy.accepted]
    far = f", |h| S {np.nanmedian(ratio):.2f} of the stability size" if np.isfinite(ratio).any() else ""
    return Verdict(
        "accuracy",
        f"E is {np.median(error):.2f} in the median{far}: the tolerance sets the size of all {error.size} steps.",
        "Loosen the tolerance if the result allows it, take a method of higher order, or train with the `LocalError` "
        "term.",
        float(np.mean(error >= 0.1)),
    )
