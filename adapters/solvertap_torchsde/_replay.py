"""Accepted steps of torchsde, taken again."""

from __future__ import annotations

from typing import Any

from solvertap import Step
from solvertap.adapting import Counts
from solvertap_torch.exchanged import exchanged

from ._brownian import path_restored
from ._counting import EvaluationCounter
from ._method import method_of
from ._read import adaptive_step, fixed_step
from ._subclasses import has_own_loop


def unreplayable(solver: Any) -> str:
    """Why the steps of a solver cannot be taken again, if so."""
    if method_of(solver) is None or has_own_loop(solver):
        return f"`{type(solver).__name__}` takes its steps in its own way"
    return ""


class Again:
    """Takes the accepted steps of a solver again, on the same Brownian path.

    What it keeps from step to step is the state, and the solver's extra state. A step of fixed size is taken in halves
    as well. Their increments are queried once and noted: split intervals are joined again, for the adjoint must find
    the path that it finds without us.
    """

    def __init__(self, solver: Any, counts: Counts) -> None:
        self.solver = solver
        self.counts = counts
        self.step = solver.step  # before the tap shadows it

    def __call__(self, kept: Any, t0: Any, t1: Any, increments: dict[Any, Any]) -> tuple[Step, Any]:
        """The step between two noted times, and what the solver keeps after it."""
        solver, (y0, *extra0) = self.solver, kept
        bm = solver.bm if solver.adaptive else _Noted(solver.bm, increments)
        with (
            EvaluationCounter(solver, self.counts) as counter,
            path_restored(solver.bm, t0, t1),
            exchanged(solver, bm=bm),
        ):
            middle = 0.5 * (t0 + t1)
            first, whole, *extra1 = counter.take(self.step, t0, t1, y0, *extra0)
            second, half, *extra = counter.take(self.step, t0, middle, y0, *extra0)
            third, y1, *extra = counter.take(self.step, middle, t1, half, *extra)
        if not solver.adaptive:
            return fixed_step(solver, t0, t1, y0, whole, y1), (whole, *extra1)
        attempt, drifts = (t0, t1, y0, whole, half, y1), (first, second, third)
        return adaptive_step(solver, counter.sde.noise_type, attempt, drifts, self.drift), (y1, *extra)

    def drift(self, t: Any, y: Any) -> Any:
        """The drift of the SDE."""
        with EvaluationCounter(self.solver, self.counts) as counter:
            return counter.drift(t, y)


class _Noted:
    """A Brownian motion that gives the increments that are noted, and notes the others."""

    def __init__(self, bm: Any, increments: dict[Any, Any]) -> None:
        self.bm = bm
        self.increments = increments

    def __call__(self, ta: Any, tb: Any, *args: Any, **kwargs: Any) -> Any:
        key = float(ta), float(tb), args, tuple(kwargs.items())
        if key not in self.increments:
            self.increments[key] = self.bm(ta, tb, *args, **kwargs)
        return self.increments[key]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bm, name)
