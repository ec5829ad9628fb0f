"""By what a `GradScaler` scales the loss whose backward pass is at work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from torch.amp import grad_scaler

from solvertap import Patches, regularizing

_scale: Any = None  # where a `GradScaler` has scaled the loss


def attach(patches: Patches) -> None:
    """Places the tap on what scales a loss."""
    patches.replace(grad_scaler.GradScaler, "scale", _tapped_scale)


def scaled(weights: Sequence[Any], kinds: Sequence[tuple[torch.dtype, torch.device]]) -> list[Any]:
    """The weights of a penalty's values as tensors of their dtype and device, scaled as the loss is."""
    scale = 1.0 if _scale is None else _scale
    return [
        torch.as_tensor(weight, dtype=dtype, device=device) * scale
        for weight, (dtype, device) in zip(weights, kinds, strict=True)
    ]


def flat(solution: Any) -> list[Any]:
    """The tensors of a tensor, or of tuples and lists of them."""
    if isinstance(solution, torch.Tensor):
        return [solution]
    return [x for part in solution for x in flat(part)] if isinstance(solution, tuple | list) else []


def _tapped_scale(scale: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(scale)
    def tapped(self: Any, outputs: Any) -> Any:
        scaled = scale(self, outputs)
        if regularizing() is not None and self.is_enabled():
            for x in flat(scaled):
                if x.requires_grad:
                    x.register_hook(_ScaleOf(self))
        return scaled

    return tapped


class _ScaleOf:
    """Says, while a backward pass begins, by what its loss was scaled."""

    def __init__(self, scaler: Any) -> None:
        self.factor = scaler._scale.clone()  # the scaler changes it in place

    def __call__(self, _: Any) -> None:
        global _scale
        _scale = self.factor
        torch.autograd.Variable._execution_engine.queue_callback(_forget_scale)


def _forget_scale() -> None:
    global _scale
    _scale = None
