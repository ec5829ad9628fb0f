"""Whether a number format resolves the tolerance of a solve."""

from __future__ import annotations

import warnings
from typing import Any

from ..errors import RoundingWarning
from ..steps.arrays import State, array_namespace, epsilon, parts
from ..terms.error_and_stiffness import LocalError, Stiffness
from .fold import Fold
from .optional_term import plain

_warned: set[tuple[str, tuple[str, ...]]] = set()  # adapters and terms


def warn_of_rounding(adapter: str, fold: Fold, rtol: Any, atol: Any, like: State) -> None:
    """Warns once for an adapter and its terms where a tolerance is less than one rounding of a state.

    A state of size one is rounded by up to eps / 2, and a step whose error is about the tolerance has an error estimate
    of about atol + rtol. Only tolerances that are numbers are checked, so that nothing waits for a device.

    Args:
        adapter: its name.
        fold: what is measured.
        rtol, atol: of the solve.
        like: a state of the solve.
    """
    if not (isinstance(rtol, int | float) and isinstance(atol, int | float)):
        return
    first = parts(like)[0]
    eps = epsilon(array_namespace(first), first.dtype)
    if rtol + atol >= eps / 2:
        return
    affected = adapter, _affected(fold)
    if not affected[1] or affected in _warned:
        return
    _warned.add(affected)
    dtype = str(first.dtype).removeprefix("torch.")
    warnings.warn(
        f"A solve of {adapter!r} in {dtype} has the tolerance rtol={rtol:.2g}, atol={atol:.2g}, less than "
        f"the rounding of a state of size one ({eps / 2:.1g}): {' and '.join(affected[1])} may be mostly "
        f"rounding, and the gradient too. Solve in float64, or with a tolerance of {eps:.0e} or more. This "
        "is said once.",
        RoundingWarning,
        stacklevel=3,
    )


def _affected(fold: Fold) -> tuple[str, ...]:
    names = [term.name for term in fold.terms if isinstance(plain(term), LocalError | Stiffness)]
    return tuple(sorted({*names, *(["local_sample"] if fold.kinds else [])}))
