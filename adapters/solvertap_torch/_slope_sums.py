"""Weighted sums of the slopes of several steps, and their transpose."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch

Rows = tuple[tuple[float, ...], ...]


def joined(tensors: Sequence[Any], batch: int | None = None) -> Any:
    """The tensors of several steps stacked along a first axis; that of a single step as it is.

    Steps of a batch have that axis already, and are joined along it.
    """
    if len(tensors) == 1:
        return tensors[0]
    return torch.stack(list(tensors)) if batch is None else torch.cat(list(tensors))


def apart(x: Any, count: int, batch: int | None = None) -> Sequence[Any]:
    """The inverse of `joined` for `count` steps; None for each if x is None."""
    if x is None or count == 1:
        return [x] * count
    pieces: Sequence[Any] = x.unbind() if batch is None else x.split(batch)
    return pieces


def along(factor: Any, x: Any) -> Any:
    """A number, or one for each step, reshaped to multiply the steps along the first axis of x."""
    return factor.reshape(-1, *[1] * (x.ndim - 1)) if factor.ndim else factor


def total(tensors: Sequence[Any]) -> Any:
    """The sum of the tensors that are not None; None if all are."""
    found: Any = None
    for x in tensors:
        if x is not None:
            found = x if found is None else found + x
    return found


def widened(x: Any) -> Any:
    """The tensor in at least single precision."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def contract(row: Sequence[float], tensors: Sequence[Any]) -> Any:
    """The weighted sum of tensors; None if every weight is 0."""
    found: Any = None
    for weight, x in zip(row, tensors, strict=True):
        if weight:
            # In place after the first product, which is a new tensor.
            found = torch.mul(x, weight) if found is None else found.add_(x, alpha=weight)
    return found


class SlopeSums(NamedTuple):
    """The map from slopes to weighted sums, and its transpose.

    Attributes:
        rows: the weights of each sum.
        columns: the slopes with a weight in any sum.
        steps: the number of steps. If there are several, they are the first axis of each sum.
        batch: how many samples each step has, whose own axis the first one is then; else None.
    """

    rows: Rows
    columns: tuple[int, ...]
    steps: int
    batch: int | None = None

    @classmethod
    def of(cls, rows: Rows, steps: int, batch: int | None = None) -> SlopeSums:
        """The map to the sums with these weights."""
        return cls(rows, _columns(rows), steps, batch)

    def sums(self, slopes: Sequence[Any], number: int) -> list[Any]:
        """The first sums.

        Args:
            slopes: for each column the slope of every step.
            number: how many sums.
        """
        if number == 0:
            return []
        columns: Sequence[Any] = slopes
        if self.steps > 1:
            stack = joined(slopes, self.batch)
            rest = stack.shape[1:]
            columns = stack.reshape(len(self.columns), self.steps * (self.batch or 1), *rest).unbind()
        # No matrix product: neighbouring stages nearly cancel, and their rounding must be the same everywhere.
        return [contract(row, [widened(x) for x in columns]) for row in _cut(self.rows)[:number]]

    def back(self, cotangents: Sequence[Any]) -> list[Any]:
        """The cotangents of the slopes: for each column one of every step."""
        nonzero = [x for x in zip(_cut(self.rows), cotangents, strict=True) if x[1] is not None]
        if not nonzero:
            return [None] * self.steps * len(self.columns)
        rows, tensors = tuple(zip(*(row for row, _ in nonzero), strict=True)), [x for _, x in nonzero]
        like = tensors[0]
        if not _is_exact(like):
            return [x for row in rows for x in apart(contract(row, tensors), self.steps, self.batch)]
        # One matrix product takes a fifth of the time of separate sums.
        shape = like.shape[1:] if self.steps > 1 else like.shape
        if self.steps > 1 and self.batch is not None:
            shape = (self.batch, *shape)
        return _product(rows, torch.stack(tensors) if len(tensors) > 1 else like, (len(rows) * self.steps, *shape))


@cache
def _columns(rows: Rows) -> tuple[int, ...]:
    return tuple(i for i, column in enumerate(zip(*rows, strict=True)) if any(column))


@cache
def _cut(rows: Rows) -> Rows:
    """The rows without the columns of zeros."""
    columns = _columns(rows)
    return tuple(tuple(row[i] for i in columns) for row in rows)


def _product(rows: Rows, tensors: Any, shape: Sequence[int]) -> list[Any]:
    """The weighted sums of the stacked tensors, in full precision."""
    tensors, many = widened(tensors), len(rows[0])
    weights = _weights(rows, tensors.dtype, tensors.device)
    product = weights @ tensors.reshape(many, tensors.numel() // many)
    return list(product.reshape(shape).unbind())


@cache
def _weights(rows: Rows, dtype: torch.dtype, device: torch.device) -> Any:
    return torch.tensor(rows, dtype=dtype, device=device)


def _is_exact(x: Any) -> bool:
    """Whether a matrix product has full precision; autocast and TF32 reduce it."""
    return torch.get_float32_matmul_precision() == "highest" and not torch.is_autocast_enabled(x.device.type)
