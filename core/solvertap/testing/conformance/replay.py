"""The accepted steps of a solve taken again: from the tableau in NumPy, or by the library's own single steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ...terms.step_term import StepTerm
from ...terms.sums import add
from .case import START, Case, Vector
from .formulas import measure, reduce_steps, take


class Replay(Protocol):
    """Takes steps with any parameters, on times that are given."""

    description: str

    def start(self) -> Any:
        """The initial state."""
        ...

    def step(
        self, parameters: Vector, y0: Any, t0: float, t1: float, terms: Sequence[StepTerm]
    ) -> tuple[Any, Measured]:
        """The state at t1, and what each term measures on the step."""
        ...


Measured = Mapping[StepTerm, float]


class FromTableau:
    """In NumPy, from the tableau that the adapter hands over: independent of the library and of the adapter's steps."""

    description = "a replay in NumPy from the tableau"

    def __init__(self, case: Case, tableau: Any) -> None:
        self._case = case
        self._tableau = tableau

    def start(self) -> Vector:
        return START.ravel()

    def step(self, parameters: Vector, y0: Vector, t0: float, t1: float, terms: Sequence[StepTerm]) -> Any:
        trial = self._case.trial

        def field(t: float, y: Vector) -> Vector:
            return np.asarray(trial.field(t, y.reshape(START.shape), parameters)).ravel()

        step = take(field, self._tableau, y0, t0, t1)
        return step.y1, {term: measure(_formula(term), step, trial.rtol, trial.atol) for term in terms}


class FromOneStep:
    """By `Trial.one_step`, observed: for solvers whose steps are no combination of their slopes alone."""

    description = "a replay by single steps of the library"

    def __init__(self, case: Case) -> None:
        self._case = case
        self._step = case.trial.compiled(self._observed) if case.terms else self._observed
        self._terms: tuple[StepTerm, ...] = ()

    def start(self) -> Any:
        return self._case.trial.array(START)

    def _observed(self, parameters: Any, y0: Any, t0: Any, t1: Any) -> Any:
        with self._case.observe(add(1.0 * term for term in self._terms)) as seen:
            y1 = self._case.one_step(parameters, y0, t0, t1)
        return y1, seen.values

    def step(self, parameters: Vector, y0: Any, t0: float, t1: float, terms: Sequence[StepTerm]) -> Any:
        single = tuple(dict.fromkeys(_unreduced(term) for term in terms))
        if single != self._terms:
            self._terms = single
            self._step = self._case.trial.compiled(self._observed)
        y1, values = self._step(self._case.trial.array(parameters), y0, t0, t1)
        return y1, {term: self._case.number(values[_unreduced(term).name]) for term in terms}


def total(
    replay: Replay, parameters: Vector, grid: Sequence[tuple[float, float]], terms: Sequence[StepTerm]
) -> dict[StepTerm, float]:
    """The value of each term over the steps of a grid."""
    y, measured = replay.start(), []
    for t0, t1 in grid:
        y, values = replay.step(parameters, y, t0, t1, terms)
        measured.append(values)
    sizes = [t1 - t0 for t0, t1 in grid]
    return {
        term: reduce_steps([values[term] for values in measured], sizes, term.reduce, term.weigh_by_step)
        for term in terms
    }


def accepted_grid(trace: Mapping[str, Vector]) -> list[tuple[float, float]]:
    """The times of the accepted steps of a trace."""
    kept = trace["accepted"]
    return [(float(t), float(t + h)) for t, h in zip(trace["t"][kept], trace["h"][kept], strict=True)]


def _formula(term: StepTerm) -> str:
    return term.name.partition(" ")[0]


def _unreduced(term: StepTerm) -> StepTerm:
    from dataclasses import replace

    return replace(term, name=_formula(term), reduce="sum", weigh_by_step=False)
