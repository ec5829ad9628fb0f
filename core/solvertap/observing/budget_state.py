"""What a budget has found so far."""

from __future__ import annotations

from typing import NamedTuple

from ..steps.arrays import Array


class BudgetState(NamedTuple):
    """What a budget has found so far: real scalars without gradient, the carry of a training loop.

    Attributes:
        weight: of the term, in the next solve; next to nothing before the gradients were first measured.
        ratio: the norm of the weighted penalty's gradient by that of the loss, when they were last measured.
        level: what the budget is about, smoothed: the steps or the evaluations of a solve, or the loss.
        loss, best, first: the loss, smoothed, the lowest that it has been, and the first one.
        excess: how far the solves are from the target, from -1 to 1, smoothed; above zero the weight grows.
        log_multiplier: the logarithm of the multiplier, which adds up the excesses.
        log_share: the logarithm of the part of the cap that is in use: the multiplier, and the response to the excess.
        log_scale: the logarithm of the ratio at a weight of one, as measured; it rises at once and falls slowly.
        reference: what the target is a part of: the mean steps of the first solves, or the best level of the
            loss, as it is followed.
        updates, measured: how many there were, and with gradients.
    """

    weight: Array
    ratio: Array
    level: Array
    loss: Array
    best: Array
    first: Array
    excess: Array
    log_multiplier: Array
    log_share: Array
    log_scale: Array
    reference: Array
    updates: Array
    measured: Array


def first_state(**given: float) -> BudgetState:
    """Of NumPy scalars: those that are given, and zeros."""
    import numpy as np  # not before it is needed: the command line shows its help without

    return BudgetState(*[np.float64(given.get(name, 0.0)) for name in BudgetState._fields])
