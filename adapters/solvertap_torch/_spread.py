"""Sums of slopes that are known already, and how the derivative by one is spread over the slopes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch


def joined(tensors: Sequence[Any]) -> Any:
    """The tensors of several steps along a first axis; of one step, its own."""
    return torch.stack(list(tensors)) if len(tensors) > 1 else tensors[0]


def apart(x: Any, count: int) -> Sequence[Any]:
    """The tensor of each of so many steps that were `joined`; None for each, where there is none."""
    return [x] * count if x is None or count == 1 else x.unbind()


def along(factor: Any, x: Any) -> Any:
    """A number, or one for each step, shaped so that it multiplies the steps along the first axis of a tensor."""
    return factor.reshape(-1, *[1] * (x.ndim - 1)) if factor.ndim else factor


def contract(row: Sequence[float], tensors: Sequence[Any]) -> Any:
    """The weighted sum of tensors; None where no weight is other than 0."""
    total: Any = None
    for weight, x in zip(row, tensors, strict=True):
        if weight:
            # In place, once it is a tensor of our own.
            total = torch.mul(x, weight) if total is None else total.add_(x, alpha=weight)
    return total


@dataclass(frozen=True)
class Way:
    """How the derivatives by sums of slopes go back to the slopes.

    Attributes:
        rows: of each sum, its weights.
        factors: what a sum is multiplied by besides, a number or one for each step; None for 1.
        count: how many steps. Of several, the sums have them along their first axis.
    """

    rows: Sequence[Any]
    factors: Sequence[Any]
    count: int

    def back(self, cotangents: Sequence[Any]) -> list[Any]:
        """The derivatives by the slopes: of each stage one for each step."""
        asked = [x for x in zip(self.rows, self.factors, cotangents, strict=True) if x[2] is not None]
        if not asked:
            return [None] * self.count * len(self.rows[0])
        rows = tuple(row for row, *_ in asked)
        columns = _by_column(rows, [g if factor is None else along(factor, g) * g for _, factor, g in asked])
        return [x for column in columns for x in apart(column, self.count)]


def spread(way: Way, sums: Sequence[Any], slopes: Sequence[Any]) -> list[Any]:
    """Sums that are computed already, without gradient, as what they are of the slopes."""
    return list(_Spread.apply(way, sums, *slopes))  # type: ignore[no-untyped-call]  # torch's


class _Spread(torch.autograd.Function):
    """Linear, so that nothing is kept for its derivative."""

    @staticmethod
    def forward(ctx: Any, way: Any, sums: Any, *slopes: Any) -> Any:  # noqa: ARG004  # torch connects the slopes
        ctx.way = way
        ctx.set_materialize_grads(False)
        return tuple(sums)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        return None, None, *ctx.way.back(cotangents)


def _by_column(rows: tuple[Any, ...], tensors: list[Any]) -> list[Any]:
    like = tensors[0]
    if not _is_exact(like):
        return [contract(column, tensors) for column in zip(*rows, strict=True)]
    # One product takes a fifth of the time of as many sums.
    product = _weights(rows, like.dtype, like.device) @ torch.stack(tensors).reshape(len(tensors), -1)
    return list(product.reshape(-1, *like.shape).unbind())


def _is_exact(x: Any) -> bool:
    """Whether a matrix product is in all the digits of its factors here: autocast and TF32 take some away."""
    return torch.get_float32_matmul_precision() == "highest" and not torch.is_autocast_enabled(x.device.type)


@cache
def _weights(rows: tuple[tuple[float, ...], ...], dtype: torch.dtype, device: torch.device) -> Any:
    return torch.tensor(rows, dtype=dtype, device=device).T
