"""Several samples of each input, in one solve."""

from __future__ import annotations

from solvertap.steps.arrays import Array, array_namespace

from ..problems.problem import Problem


def repeated(problem: Problem, y0: Array) -> Array:
    """The initial states of every sample, (trajectories * batch, d): the whole batch, again and again."""
    return y0 if problem.trajectories == 1 else array_namespace(y0).concat([y0] * problem.trajectories, axis=0)


def apart(problem: Problem, states: Array) -> Array:
    """The states of a solve, (times, trajectories * batch, d), as (trajectories, times, batch, d)."""
    if problem.trajectories == 1:
        return states
    xp = array_namespace(states)
    times, _, *rest = states.shape
    return xp.moveaxis(xp.reshape(states, (times, problem.trajectories, -1, *rest)), 1, 0)
