"""A replay in torch: each step under checkpointing, so that its memory is that of what the solver keeps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from solvertap.adapting import Counts, ReplayCarry

from .recompute import Recompute


def replayed(
    take: Callable[..., ReplayCarry], again: Callable[..., ReplayCarry], carried: ReplayCarry, grid: Any
) -> ReplayCarry:
    """What a replay carries after its last step; see `Framework.replayed`."""
    totals, kept = carried
    # Copies: the caller may write to the initial state once the solve is over, and the backward pass needs it.
    kept = tuple(x.clone() for x in kept)
    device = next(x.device for x in (*kept, *totals) if isinstance(x, torch.Tensor))
    recompute, count = Recompute(Counts(), device), len(totals)  # `again` counts
    for noted in grid:
        found = recompute.call(partial(_flat, take, count, noted), partial(_flat, again, count, noted), *totals, *kept)
        totals, kept = found[:count], found[count:]
    return totals, kept


def _flat(take: Callable[..., ReplayCarry], count: int, noted: Any, *tensors: Any) -> tuple[Any, ...]:
    totals, kept = take((tensors[:count], tensors[count:]), *noted)
    return *totals, *kept
