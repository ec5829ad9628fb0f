"""The one thing an adapter hands over: what a solver did between two times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

Array = Any
"""An array of whatever library, 0-d where a scalar is meant. The core never asks which."""

State = Any
"""An `Array`, or a tuple of them where the state has several parts."""


def parts(state: State) -> tuple[Array, ...]:
    """The arrays of a state, whether it is one array or a tuple of them."""
    return state if isinstance(state, tuple) else (state,)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Stages:
    """The stage slopes of a Runge-Kutta step and how its last two stages differ.

    Attributes:
        slopes: the stage slopes k_1 ... k_s stacked along `axis`, for each part of the state. Any common
            factor may be left in (diffrax stores h k_i): it cancels in everything measured here.
        end_gap: shape (s,), `end_gap(c, a)` of the tableau as an array of the state's dtype.
        axis: where the stages are stacked: 0 or -1.
    """

    slopes: State
    end_gap: Array
    axis: int

    def last_two(self) -> tuple[State, State]:
        """k_s - k_(s-1), and the difference of the states at which the two were evaluated over h."""
        slopes = parts(self.slopes)
        if self.axis == 0:
            difference = tuple(k[-1, ...] - k[-2, ...] for k in slopes)
        else:
            difference = tuple(k[..., -1] - k[..., -2] for k in slopes)
        xp = array_namespace(self.end_gap)
        gap = tuple(xp.tensordot(k, self.end_gap, axes=((self.axis,), (0,))) for k in slopes)
        return difference, gap


def end_gap(c: Sequence[float], a: Sequence[Iterable[float]]) -> tuple[float, ...] | None:
    """a_s - a_(s-1), the rows of the last two stages, if both stand at the end of the step.

    Contracted with the stages it gives the difference of two states at one time, which is what a
    stiffness estimate needs, without rebuilding either state. None if the stages stand elsewhere.

    Args:
        c: the nodes, s of them, the first included.
        a: the strictly lower rows of the tableau, the first row empty.
    """
    if len(c) < 2 or c[-1] != 1 or c[-2] != 1:
        return None
    last, before = list(a[-1]), list(a[-2])
    stages = len(c)
    last += [0.0] * (stages - len(last))
    before += [0.0] * (stages - len(before))
    return tuple(float(x - y) for x, y in zip(last, before, strict=True))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Step:
    """One attempted step from t0 to t1.

    Whatever carries gradient in the framework carries it here: `y0`, `y1`, `error`, `stages`. Times do not:
    an adapter hands `t0` and `t1` over as constants, because nobody wants to differentiate through a step-size
    controller (docs/mathematics.md, "What is held fixed").

    Attributes:
        t0, t1: start and end in the user's own time, scalars; t1 < t0 for a solve backwards in time.
        y0: the state at t0. Its shape and structure are the solver's; every other state has the same.
        y1: the state at t1, were the step accepted.
        error: y1 minus the solver's second solution at t1, unscaled; its sign is not relied on.
        y1_embedded: that second solution. One of the two may be left out, both where there is no estimate.
        rtol, atol: the tolerances of the solve; None where it has none.
        norm: maps a state to the scalar that the solver compares with 1; None for the root mean square.
        stages: the stage slopes, when the method has two stages at t1.
        field: maps (t, y) to the slope (the drift, for an SDE) at an extra cost of one evaluation; None where
            the solver cannot offer it.
        accepted: whether the solver kept the step: a bool, or a boolean array while a loop is traced.
    """

    t0: Array
    t1: Array
    y0: State
    y1: State
    error: State | None = None
    y1_embedded: State | None = None
    rtol: Array | None = None
    atol: Array | None = None
    norm: Callable[[State], Array] | None = None
    stages: Stages | None = None
    field: Callable[[Array, State], State] | None = None
    accepted: Any = True

    @property
    def h(self) -> Array:
        """The signed step size t1 - t0."""
        return self.t1 - self.t0
