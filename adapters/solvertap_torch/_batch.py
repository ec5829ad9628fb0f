"""Several steps as the tensors of one node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from solvertap import Step, StepTerm
from solvertap.adapting import Gradient, Stages, Steps, Tableau

from ._slope_sums import SlopeSums, along, apart, joined, total

_OWN = ("t0", "t1", "y0", "y1", "error", "error_ratio", "y1_embedded", "field", "stages")
_SHARED = tuple(field.name for field in fields(Step) if field.name not in _OWN)


@dataclass(frozen=True, slots=True)
class StepBatch:
    """Accepted steps of one solve without their states and slopes.

    Attributes:
        shared: the other attributes of `Step`, the times of all steps in one tensor.
        names: the states that are tensors of the node, one for each step.
        stages: the tableau of the slopes, and their unit; None if the solver shows none.
        way: from the slopes to the sums that the terms use.
        h: the step sizes, if the last sum times h is the error that the steps already have; else None.
        batch: how many samples each step has, if they take steps of their own; else None.
        taken: which samples took their step, if there is a batch.
    """

    shared: dict[str, Any]
    names: tuple[str, ...]
    stages: tuple[Tableau, Any] | None
    way: SlopeSums
    h: Any
    batch: int | None = None
    taken: Any = None

    @classmethod
    def of(cls, terms: Sequence[StepTerm], steps: Sequence[Step]) -> StepBatch:
        """What some terms need of steps."""
        first, count = steps[0], len(steps)
        batch = len(first.y1) if isinstance(first, Steps) else None
        shared = {name: getattr(first, name) for name in _SHARED}
        shared |= {name: _times([getattr(step, name) for step in steps], first.y1, batch) for name in ("t0", "t1")}
        taken = None
        if batch is not None:
            taken = joined([step.accepted & step.attempted for step in steps], batch)
            shared |= {"accepted": True, "attempted": True}  # what is measured, see `harmless`
        stages = None if first.stages is None else (first.stages.tableau, first.stages.unit)
        estimate = [name for name in ("y1_embedded", "error") if getattr(first, name) is not None][:1]
        rows = tuple(dict.fromkeys([row for term in terms for row in term.rows(first)]))
        # The solver's own error is differentiated as the sum of slopes that it is.
        e = stages[0].e if estimate == ["error"] and stages is not None else None
        h = None
        if stages is not None and e in rows:
            rows = (*(row for row in rows if row != e), tuple(e))
            h = (shared["t1"] - shared["t0"]).to(first.error.real.dtype)  # type: ignore[union-attr]  # `e` is None without an error
            h = h if stages[1] == 1 else h / stages[1]
        names = ("y0", "y1", *(estimate if e is None else []))
        return cls(shared, names, stages, SlopeSums.of(rows, count, batch), h, batch, taken)

    @property
    def split(self) -> int:
        """The number of states among the tensors."""
        return len(self.names) * self.way.steps

    def tensors(self, steps: Sequence[Step]) -> list[Any]:
        """The tensors of the steps: each state of every step, then each slope that any sum needs of every step."""
        shown: list[Any] = [step.stages for step in steps if self.way.rows]
        slopes = [stages.slopes[i] for i in self.way.columns for stages in shown]
        return [getattr(step, name) for name in self.names for step in steps] + slopes

    def errors(self, steps: Sequence[Any]) -> Any:
        """The errors of the steps, if they are the last sum; else None."""
        return joined([step.error.detach() for step in steps], self.batch) if self.h is not None else None

    def sums(self, slopes: Sequence[Any], errors: Any) -> list[Any]:
        """The sums of the slopes."""
        known = [] if errors is None else [errors]
        return [*self.way.sums(slopes, len(self.way.rows) - len(known)), *known]

    def step(self, states: Sequence[Any], sums: Sequence[Any], size: Any = None) -> Step:
        """The steps as one, their states along a first axis if there are several.

        Args:
            states: those of `tensors`; if empty, the step has no states.
            sums: those of `sums`.
            size: `Step.error_ratio` of each step.
        """
        count = self.way.steps
        found: dict[str, Any] = {"y0": None, "y1": None} | self.shared
        for i, name in enumerate(self.names if states else ()):
            found[name] = joined(states[i * count : (i + 1) * count], self.batch)
        if self.h is not None and sums:
            found["error"] = sums[-1]
        stages = None
        if self.stages is not None:
            contracted = {row: (x,) for row, x in zip(self.way.rows, sums, strict=False)}
            stages = Stages(slopes=[], tableau=self.stages[0], unit=self.stages[1], contracted=contracted)
        stacked = count > 1 or self.batch is not None
        return (Steps if stacked else Step)(**found, error_ratio=size, stages=stages)

    def harmless(self, saved: Sequence[Any], values: int) -> Sequence[Any]:
        """What was saved, with zeros for values and sums, and ones for states, of a sample that did not take its step.

        Their cotangents are zero, and zero times a derivative that is not finite would be a NaN.
        """
        if self.taken is None:
            return saved
        instead = [0.0] * values + [1.0] * self.split + [0.0] * (len(saved) - values - self.split)
        of_step = apart(self.taken, self.way.steps, self.batch)

        def clean(i: int, x: Any) -> Any:
            of_state = values <= i < values + self.split
            taken = of_step[(i - values) % self.way.steps] if of_state else self.taken
            return torch.where(along(taken, x), x, instead[i])

        return [clean(i, x) for i, x in enumerate(saved)]

    def _apart(self, x: Any) -> Sequence[Any]:
        return apart(x, self.way.steps, self.batch)

    def by_tensor(self, gradients: Sequence[Gradient], by_sums: Sequence[Any]) -> list[Any]:
        """The cotangent of each tensor of `tensors`, or None.

        Args:
            gradients: of the terms.
            by_sums: the cotangents of the sums as outputs of the node, each may be None.
        """
        columns = [x for name in self.names for x in self._apart(_by_state(name, gradients))]
        triples = [triple for gradient in gradients for triple in gradient.rows]
        found = [[along(factor, x[0]) * x[0] for at, x, factor in triples if at == row] for row in self.way.rows]
        if self.h is not None:
            found[-1] = [x[0] for gradient in gradients if (x := gradient.error) is not None]
        totals = [total([*added, more]) for added, more in zip(found, by_sums, strict=True)]
        if self.h is not None and totals[-1] is not None:
            totals[-1] = along(self.h, totals[-1]) * totals[-1]
        return columns + self.way.back(totals)


def _times(times: Sequence[Any], like: Any, batch: int | None) -> Any:
    """The times as one tensor on the device of the state. A solver may have them as numbers, or on the host."""
    if not isinstance(times[0], torch.Tensor):
        # In the precision of Python's floats: a step size is a difference of times.
        return joined([torch.as_tensor(t, dtype=torch.float64, device=like.device) for t in times])
    together = joined(times, batch)
    return together if together.device == like.device else together.to(like.device)


def _by_state(name: str, gradients: Sequence[Gradient]) -> Any:
    return total([None if (x := getattr(gradient, name)) is None else x[0] for gradient in gradients])
