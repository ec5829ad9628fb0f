"""The weight before a term."""

from __future__ import annotations

import math
from numbers import Number, Real
from typing import Any

from ..errors import InvalidInputError


def checked(weight: Any) -> Any:
    """The weight itself. Arrays, tensors and traced values are not checked: their values are not known here.

    Raises:
        InvalidInputError: it is a number that is negative, infinite, not a number, or not a real one.
    """
    if isinstance(weight, Number) and not (isinstance(weight, Real) and _is_finite(weight) and float(weight) >= 0):
        raise InvalidInputError(
            f"The weight of a term is {weight!r}. Give a finite number, zero or more. To make a term grow, "
            "subtract it from the loss, as in `loss - seen.penalty`."
        )
    return weight


def _is_finite(weight: Real) -> bool:
    try:
        return math.isfinite(weight)
    except OverflowError:  # an integer beyond all floating-point numbers
        return False
