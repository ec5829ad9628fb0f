"""Steps whose size nothing in the problem sets: the first ones, and those that end where they are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .anatomy import Anatomy
from .verdict import Verdict, percent

if TYPE_CHECKING:
    from .anatomy import Column

_GROWING = 2.0  # a step so many times its predecessor is on the way to its size
_GROWING_SLOWLY = 1.3  # and one that is as many times its predecessor as the step before
_SHORT = 0.5  # of what a controller proposes


def first_step(anatomy: Anatomy) -> Verdict | None:
    """Steps spent growing away from a first step that is far too small."""
    sizes = anatomy.sizes[anatomy.accepted]
    grown = _growing(sizes)
    share = grown / max(1, anatomy.attempts)
    if grown < 3 or share < 0.25:
        return None
    return Verdict(
        "first step",
        f"The first step is {sizes[0]:.1e}, and {grown} of {anatomy.attempts} steps only grow away from it, to "
        f"{sizes[grown]:.1e}.",
        f"Give one of about {sizes[grown]:.1g} (`first_step`, `dt0`, `dt`), or leave a given one to the solver.",
        share,
    )


def _growing(sizes: Column) -> int:
    """How many steps at the beginning are on the way to their size: a controller lets them grow as much as it may."""
    if len(sizes) < 2:
        return 0
    factors = sizes[1:] / sizes[:-1]
    most = factors[0]  # torchsde lets a step grow to 1.4 times the one before
    grows = (factors >= _GROWING) | ((most >= _GROWING_SLOWLY) & (abs(factors - most) < 0.01 * most))
    return int(grows.argmin()) if not grows.all() else len(grows)


def last_steps(anatomy: Anatomy) -> Verdict | None:
    """Steps that end where something else than their error says: at output times, at jumps, at a largest step."""
    import numpy as np

    # Of consecutive accepted attempts, and not into the last one, which the end of the time cuts.
    before = np.flatnonzero(anatomy.accepted[:-1] & anatomy.accepted[1:])[:-1]
    if before.size < 4 or not np.isfinite(anatomy.proposed[before]).all():
        return None
    cut = anatomy.sizes[before + 1] < _SHORT * anatomy.proposed[before]
    share = float(np.sum(cut)) / anatomy.attempts
    if share < 0.25:
        return None
    wider = np.median(anatomy.proposed[before][cut] / anatomy.sizes[before + 1][cut])
    return Verdict(
        "last steps",
        f"{int(np.sum(cut))} of {anatomy.attempts} steps are shorter than their error asks for, {wider:.1f} times in "
        f"the median, with E {np.median(anatomy.local_error[before + 1][cut]):.1e}: they end at times that are given.",
        "Interpolate instead of stopping (`t` of `odeint`, `SaveAt(ts=...)`), give fewer `step_t`, `step_ts` or jumps, "
        "or a larger largest step.",
        share,
    )


def rejections(anatomy: Anatomy) -> Verdict | None:
    """More attempts fail than a controller should need."""
    import numpy as np

    share = 1 - float(np.mean(anatomy.accepted)) if anatomy.attempts else 0.0
    if share < 0.35 or anatomy.attempts < 30:
        return None
    orders, order = anatomy.retried_orders, anatomy.facts.error_order
    finding = f"{percent(share)} of {anatomy.attempts} attempts are rejected"
    lost = 1 - float(np.mean(np.isfinite(anatomy.local_error[~anatomy.accepted])))
    if lost > 0.5:
        return Verdict(
            "rejections",
            f"{finding}, and E is not finite in {percent(lost)} of these: the iterations of an implicit method do not "
            "converge, or the field overflows.",
            "Let steps grow less (`PIDController(factormax=2)`, a largest step), or loosen the tolerance of the "
            "iterations.",
            share,
        )
    if orders.size < 3 or order is None:
        return Verdict("rejections", f"{finding}; why is unclear.", _LOOK, share)
    median = float(np.median(orders))
    if median < order / 2:
        places = _places(anatomy)
        return Verdict(
            "rejections",
            f"{finding}. From one to its retry E falls with the power {median:.1f} of h, {order} on a smooth field: "
            f"the field has kinks or jumps{places}, or gives two answers at one place.",
            "Tell the solver where they are (`jump_t`, `ClipStepSizeController(jump_ts=...)`), or smooth the field.",
            share,
        )
    return Verdict(
        "rejections",
        f"{finding}, and from one to its retry E falls with the power {median:.1f} of h, {order} on a smooth field: "
        "the controller is too bold, or steps run over what is narrower than they are, such as the knots of a spline.",
        "Take a controller with memory (`PIDController(pcoeff=0.4, icoeff=0.3)`), or a smaller largest growth.",
        share,
    )


_LOOK = "Look at the trace: `seen.trace.plot()`."


def _places(anatomy: Anatomy) -> str:
    """Where most rejections are, if they are at few places."""
    import numpy as np

    times = np.sort(anatomy.t[~anatomy.accepted])
    gaps = times[1:] - times[:-1]
    groups = np.split(times, np.flatnonzero(gaps > 0.02 * (float(np.ptp(anatomy.t)) or 1.0)) + 1)
    largest = [group for group in sorted(groups, key=len, reverse=True)[:3] if len(group) >= 0.2 * len(times)]
    if sum(map(len, largest)) < 0.6 * len(times):
        return ""
    return f" near t = {', '.join(f'{float(np.median(group)):.3g}' for group in largest)}"
