"""Several samples of each input, in one solve."""

from __future__ import annotations

from solvertap.steps.arrays import Array, array_namespace

from ..problems.problem import Problem


def of_prediction(problem: Problem) -> int | None:
    """How many samples of each input a prediction solves."""
    return problem.trajectories if problem.test_trajectories is None else problem.test_trajectories


def repeated(y0: Array, count: int | None) -> Array:
    """The initial states of every sample, (count * batch, d): the whole batch, again and again."""
    return y0 if count in (None, 1) else array_namespace(y0).concat([y0] * count, axis=0)


def apart(states: Array, count: int | None) -> Array:
    """The states of a solve, (times, count * batch, d), as (count, times, batch, d); as they are for None."""
    if count is None:
        return states
    xp = array_namespace(states)
    times, _, *rest = states.shape
    return xp.moveaxis(xp.reshape(states, (times, count, -1, *rest)), 1, 0)
