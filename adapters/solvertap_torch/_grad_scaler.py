"""The factor by which a `GradScaler` has scaled the loss of the running backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

import torch
from torch.amp import grad_scaler

from solvertap.adapting import Patches, regularizing, require

from ._flat import flat

_MOST_PASSES = 64  # remembered; the oldest is dropped, as a pass that raised never removes its own

_scales: dict[int, Any] = {}
"""The scale of each backward pass, by the number that torch's engine gives the pass."""

_inherited: ContextVar[Any] = ContextVar("solvertap_torch_scale", default=None)


def attach(patches: Patches) -> None:
    """Places the tap on `GradScaler.scale`. torch's own hooks use the same number (autograd/graph.py, from 2.1)."""
    require(torch._C, "_current_graph_task_id", "_will_engine_execute_node")
    patches.replace(grad_scaler.GradScaler, "scale", _tapped_scale)


def scaled(weights: Sequence[Any], kinds: Sequence[tuple[torch.dtype, torch.device]]) -> list[Any]:
    """The weights as tensors of the values' dtypes and devices, scaled as the loss is."""
    scale = current_scale()
    return [
        torch.as_tensor(weight, dtype=dtype, device=device) * (1.0 if scale is None else scale)
        for weight, (dtype, device) in zip(weights, kinds, strict=True)
    ]


@contextmanager
def scale_inherited() -> Iterator[None]:
    """A block whose backward passes take the scale of the running one: a reentrant checkpoint starts new ones."""
    token = _inherited.set(current_scale())
    try:
        yield
    finally:
        _inherited.reset(token)


def current_scale() -> Any:
    """The scale of the loss; None if it is not scaled."""
    return _scales.get(torch._C._current_graph_task_id(), _inherited.get())


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
    """A hook on a scaled loss: registers its scale when the backward pass starts."""

    def __init__(self, scaler: Any) -> None:
        self.factor = scaler._scale.clone()  # the scaler changes it in place

    def __call__(self, _: Any) -> None:
        number = torch._C._current_graph_task_id()
        while len(_scales) >= _MOST_PASSES:
            _scales.pop(next(iter(_scales)), None)
        _scales[number] = self.factor
        torch.autograd.Variable._execution_engine.queue_callback(lambda: _scales.pop(number, None))
