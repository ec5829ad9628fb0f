"""Sums of the slopes of several steps, and how the derivative by one is spread over the slopes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch

Rows = tuple[tuple[float, ...], ...]


def joined(tensors: Sequence[Any]) -> Any:
    """The tensors of several steps along a first axis; of one step, its own."""
    return torch.stack(list(tensors)) if len(tensors) > 1 else tensors[0]


def apart(x: Any, count: int) -> Sequence[Any]:
    """The tensor of each of so many steps that were `joined`; None for each, where there is none."""
    return [x] * count if x is None or count == 1 else x.unbind()


def along(factor: Any, x: Any) -> Any:
    """A number, or one for each step, shaped so that it multiplies the steps along the first axis of a tensor."""
    return factor.reshape(-1, *[1] * (x.ndim - 1)) if factor.ndim else factor


def total(tensors: Sequence[Any]) -> Any:
    """The sum of those that are not None; None, if none is."""
    found: Any = None
    for x in tensors:
        if x is not None:
            found = x if found is None else found + x
    return found


def widened(x: Any) -> Any:
    """The tensor in single precision or better."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def contract(row: Sequence[float], tensors: Sequence[Any]) -> Any:
    """The weighted sum of tensors; None where no weight is other than 0."""
    found: Any = None
    for weight, x in zip(row, tensors, strict=True):
        if weight:
            # In place, once it is a tensor of our own.
            found = torch.mul(x, weight) if found is None else found.add_(x, alpha=weight)
    return found


class SlopeSums(NamedTuple):
    """The way from slopes to sums of them, and of derivatives back.

    Attributes:
        rows: of each sum, its weights.
        columns: the slopes that any of them needs.
        steps: of how many steps. Of several, the sums have them along their first axis.
    """

    rows: Rows
    columns: tuple[int, ...]
    steps: int

    @classmethod
    def of(cls, rows: Rows, steps: int) -> SlopeSums:
        """That of these sums."""
        return cls(rows, _columns(rows), steps)

    def sums(self, slopes: Sequence[Any], number: int) -> list[Any]:
        """The first so many of the sums.

        Args:
            slopes: of each of the columns one for each step.
            number: how many.
        """
        if number == 0:
            return []
        columns: Sequence[Any] = slopes
        if self.steps > 1:
            stack = torch.stack(list(slopes))
            columns = stack.reshape(len(self.columns), self.steps, *stack.shape[1:]).unbind()
        # No product of matrices: what is left of neighbouring stages is rounding, which has to be the same everywhere.
        return [contract(row, [widened(x) for x in columns]) for row in _cut(self.rows)[:number]]

    def back(self, cotangents: Sequence[Any]) -> list[Any]:
        """The derivatives by the slopes: of each of the columns one for each step."""
        asked = [x for x in zip(_cut(self.rows), cotangents, strict=True) if x[1] is not None]
        if not asked:
            return [None] * self.steps * len(self.columns)
        rows, tensors = tuple(zip(*(row for row, _ in asked), strict=True)), [x for _, x in asked]
        like = tensors[0]
        if not _is_exact(like):
            return [x for row in rows for x in apart(contract(row, tensors), self.steps)]
        # One product takes a fifth of the time of as many sums.
        shape = like.shape[1:] if self.steps > 1 else like.shape
        return _product(rows, torch.stack(tensors) if len(tensors) > 1 else like, (len(rows) * self.steps, *shape))


@cache
def _columns(rows: Rows) -> tuple[int, ...]:
    return tuple(i for i, column in enumerate(zip(*rows, strict=True)) if any(column))


@cache
def _cut(rows: Rows) -> Rows:
    """The rows at their columns alone."""
    columns = _columns(rows)
    return tuple(tuple(row[i] for i in columns) for row in rows)


def _product(rows: Rows, tensors: Any, shape: Sequence[int]) -> list[Any]:
    """The sums of tensors, in full precision, each of as many as there are weights in a row."""
    tensors, many = widened(tensors), len(rows[0])
    weights = _weights(rows, tensors.dtype, tensors.device)
    product = weights @ tensors.reshape(many, tensors.numel() // many)
    return list(product.reshape(shape).unbind())


@cache
def _weights(rows: Rows, dtype: torch.dtype, device: torch.device) -> Any:
    return torch.tensor(rows, dtype=dtype, device=device)


def _is_exact(x: Any) -> bool:
    """Whether a matrix product is in all the digits of its factors here: autocast and TF32 take some away."""
    return torch.get_float32_matmul_precision() == "highest" and not torch.is_autocast_enabled(x.device.type)
