"""Several steps as the tensors of one node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from solvertap import Gradient, Step, Steps, StepTerm

from ._spread import Way, along, apart, contract, joined, spread

_NOTHING: dict[str, Any] = dict.fromkeys(("y0", "y1", "error", "error_size", "y1_embedded", "field"))


@dataclass(frozen=True)
class Block:
    """Accepted steps of one solve without their states.

    Attributes:
        frame: the steps, their times together, their stages without slopes.
        names: the states that are tensors of the node, one for each step.
        rows: of the sums of slopes that follow them, one for all steps together.
        summed: whether the error follows as another such sum.
        count: how many steps.
    """

    frame: Step
    names: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]
    summed: bool
    count: int

    @classmethod
    def of(cls, terms: Sequence[StepTerm], steps: Sequence[Step]) -> Block:
        """The block of what some terms ask of steps."""
        first = steps[0]
        estimate = [name for name in ("y1_embedded", "error") if getattr(first, name) is not None][:1]
        rows = tuple(dict.fromkeys(row for term in terms for row in term.rows(first)))
        # The error that the solver has compared with 1 is differentiated as what it is, a sum of slopes.
        e = first.stages.tableau.e if estimate == ["error"] and first.stages is not None else None
        times: Any = {name: _times([getattr(step, name) for step in steps], first.y1) for name in ("t0", "t1")}
        stages = None if first.stages is None else replace(first.stages, slopes=[])
        return cls(
            frame=(replace if len(steps) == 1 else Steps.of)(first, **_NOTHING | times, stages=stages),
            names=("y0", "y1", *(estimate if e is None else [])),
            rows=tuple(row for row in rows if row != e),
            summed=e in rows,
            count=len(steps),
        )

    def tensors(self, steps: Sequence[Step]) -> list[Any]:
        """The tensors of the steps."""
        states = [getattr(step, name) for name in self.names for step in steps]
        if not (self.rows or self.summed):
            return states
        shown: list[Any] = [step.stages for step in steps]
        columns = list(zip(*(stages.slopes for stages in shown), strict=True))
        rows, sums, factors = self.rows, [], [None] * len(self.rows)
        with torch.no_grad():
            if rows:
                stages = replace(shown[0], slopes=[joined(column) for column in columns], product=contract)
                sums = [x for row in rows for x in stages.contract(row)]
            if self.summed:
                errors: list[Any] = [step.error.detach() for step in steps]  # type: ignore[union-attr]  # `summed`
                rows, sums = (*rows, shown[0].tableau.e), [*sums, joined(errors)]
                factors.append((self.frame.h / shown[0].unit).to(errors[0].real.dtype))
        return states + spread(Way(rows, factors, self.count), sums, [k for column in columns for k in column])

    def step(self, tensors: Sequence[Any], size: Any = None) -> Step:
        """The steps, put together again, their states along a first axis where there are several.

        Args:
            tensors: those of `tensors`.
            size: what `Step.error_size` is of each.
        """
        split = len(self.names) * self.count
        states: Any = {
            name: joined(tensors[i * self.count : (i + 1) * self.count]) for i, name in enumerate(self.names)
        }
        if self.summed:
            states["error"] = tensors[-1]
        stages = self.frame.stages
        if stages is not None:
            sums = tensors[split : split + len(self.rows)]
            stages = replace(stages, contracted={row: (x,) for row, x in zip(self.rows, sums, strict=True)})
        return replace(self.frame, error_size=size, stages=stages, **states)

    def by_tensor(self, gradients: Sequence[Gradient]) -> list[Any]:
        """The sum of derivatives by each tensor; None where there is none."""
        columns = [x for name in self.names for x in apart(self._by_state(name, gradients), self.count)]
        triples = [triple for gradient in gradients for triple in gradient.rows]
        columns += [_sum([along(factor, x[0]) * x[0] for at, x, factor in triples if at == row]) for row in self.rows]
        return columns + ([self._by_state("error", gradients)] if self.summed else [])

    @staticmethod
    def _by_state(name: str, gradients: Sequence[Gradient]) -> Any:
        return _sum([x[0] for gradient in gradients if (x := getattr(gradient, name)) is not None])


def _times(times: Sequence[Any], like: Any) -> Any:
    """Times together where the state is. A solver may count them in numbers, or leave them on the host."""
    if not isinstance(times[0], torch.Tensor):
        # As wide as Python's own: a step size is their difference.
        return joined([torch.as_tensor(t, dtype=torch.float64, device=like.device) for t in times])
    together = joined(times)
    return together if together.device == like.device else together.to(like.device)


def _sum(tensors: Sequence[Any]) -> Any:
    return contract([1.0] * len(tensors), tensors) if len(tensors) != 1 else tensors[0]
