"""Several steps as the tensors of one node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from solvertap import Gradient, Stages, Step


@dataclass(frozen=True)
class Block:
    """Accepted steps of one solve without their states.

    Attributes:
        frame: the steps, their times together.
        stages: their stages without slopes, where the solver shows any.
        names: the states that are tensors of the node; the slopes follow them.
        count: how many steps.
    """

    frame: Step
    stages: Stages | None
    names: tuple[str, ...]
    count: int

    @classmethod
    def of(cls, steps: Sequence[Step]) -> tuple[Block, list[Any], Any]:
        """The block, its tensors, and the error estimates where those are differentiated as sums of slopes."""
        first, stages = steps[0], steps[0].stages
        source = [name for name in ("y1_embedded", "error") if getattr(first, name) is not None][:1]
        errors = None
        if source == ["error"] and stages is not None and stages.tableau.e is not None:
            source, errors = [], _joined([step.error for step in steps])
        names = ("y0", "y1", *source)
        columns = [[getattr(step, name) for step in steps] for name in names]
        if stages is not None:
            columns += map(list, zip(*(step.stages.slopes for step in steps if step.stages is not None), strict=True))
            stages = replace(stages, slopes=[], product=contract)
        nothing: dict[str, Any] = dict.fromkeys(("y0", "y1", "error", "y1_embedded", "stages"))
        frame = replace(
            first,
            t0=_joined([step.t0 for step in steps]),
            t1=_joined([step.t1 for step in steps]),
            lead=int(len(steps) > 1),
            field=None,
            **nothing,
        )
        return cls(frame, stages, names, len(steps)), [tensor for column in columns for tensor in column], errors

    def step(self, tensors: Sequence[Any], errors: Any = None) -> Step:
        """The steps, put together again, their states along a first axis where there are several."""
        columns = [_joined(tensors[i : i + self.count]) for i in range(0, len(tensors), self.count)]
        states = dict(zip(self.names, columns, strict=False))
        if errors is not None:
            states["error"] = errors
        stages = None if self.stages is None else replace(self.stages, slopes=columns[len(self.names) :])
        return replace(self.frame, stages=stages, **states)

    def by_tensor(self, gradients: Sequence[Gradient]) -> list[Any]:
        """The sum of derivatives by each tensor; None where there is none."""
        states = [[g[0] for x in gradients if (g := getattr(x, name)) is not None] for name in self.names]
        columns = [_sum(column) for column in states]
        if self.stages is not None:
            pairs = [(row, x[0]) for gradient in gradients for row, x in gradient.rows]
            columns += spread(pairs) if pairs else [None] * len(self.stages.tableau.c)
        if self.count == 1:
            return columns
        return [x for column in columns for x in ([None] * self.count if column is None else column.unbind())]


def contract(row: Sequence[float], tensors: Sequence[Any]) -> Any:
    """The weighted sum of tensors; None where no weight is other than 0."""
    total: Any = None
    for weight, x in zip(row, tensors, strict=True):
        if weight:
            # In place, once it is a tensor of our own.
            total = torch.mul(x, weight) if total is None else total.add_(x, alpha=weight)
    return total


def _sum(tensors: Sequence[Any]) -> Any:
    return contract([1.0] * len(tensors), tensors) if len(tensors) != 1 else tensors[0]


def spread(pairs: Sequence[tuple[Sequence[float], Any]]) -> Sequence[Any]:
    """For each place of the rows, the sum of what stands there times the tensor of the row."""
    rows, tensors = tuple(tuple(row) for row, _ in pairs), [x for _, x in pairs]
    like = tensors[0]
    if _is_exact(like):
        # One product takes a fifth of the time of as many sums.
        product = _weights(rows, like.dtype, like.device) @ torch.stack(tensors).reshape(len(tensors), -1)
        return list(product.reshape(-1, *like.shape).unbind())
    return [contract(column, tensors) for column in zip(*rows, strict=True)]


def _is_exact(x: Any) -> bool:
    """Whether a matrix product is in all the digits of its factors here: autocast and TF32 take some away."""
    return torch.get_float32_matmul_precision() == "highest" and not torch.is_autocast_enabled(x.device.type)


@cache
def _weights(rows: tuple[tuple[float, ...], ...], dtype: torch.dtype, device: torch.device) -> Any:
    return torch.tensor(rows, dtype=dtype, device=device).T


def _joined(tensors: Sequence[Any]) -> Any:
    return torch.stack(list(tensors)) if len(tensors) > 1 else tensors[0]
