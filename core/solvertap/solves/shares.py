"""Whose error it was, of the rows of a trace: shares that add up to 1, and who has the largest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InvalidInputError, NoEstimateError

if TYPE_CHECKING:
    import numpy as np


def shares_of(squares: Any) -> np.ndarray[Any, Any]:
    """The shares of groups in sums of squares of shape (n, groups), in double precision.

    In each row they add up to 1. Groups without a finite number share equally among themselves, for it is they who
    spoil the step; where all are zero, all share equally.
    """
    import numpy as np

    given = np.asarray(squares, dtype=float)
    lost = ~np.isfinite(given)
    given = np.where(lost.any(-1, keepdims=True), lost, given)
    most = given.max(-1, keepdims=True, initial=0)
    # By the largest first, since a sum of them might overflow.
    shares: np.ndarray[Any, Any] = np.where(most > 0, given / np.where(most > 0, most, 1), 1.0)
    shares /= shares.sum(-1, keepdims=True)
    return shares


def worst_of(k: Any, squares: Any, local_error: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The k groups with the largest share over all rows, the largest first, and their shares.

    Args:
        k: how many.
        squares: as of `shares_of`.
        local_error: E of each row. A row counts by E^2, and at most by 1: an attempt that is off by far is rejected
            once, as is one that is nearly good enough. Among accepted steps it is the share of the whole sum.

    Raises:
        InvalidInputError: k is no number of groups.
        NoEstimateError: no row has an error.
    """
    import numpy as np

    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InvalidInputError(f"`worst` was asked for {k!r}; give it a number of samples or parts, such as 3.")
    told = np.isfinite(squares).any(-1)
    if not told.any():
        raise NoEstimateError(
            "`worst` was asked of a trace in which no attempt has an error that could be shared; use a method with an "
            "error estimate, such as dopri5."
        )
    size = np.where(np.isfinite(local_error), np.asarray(local_error, dtype=float), 1.0)
    weight = np.minimum(size, 1.0)[told] ** 2
    if not weight.any():
        weight = np.ones_like(weight)
    shares = weight @ shares_of(squares)[told] / weight.sum()
    order = np.argsort(-shares, kind="stable")[:k]
    return order, shares[order]
