"""How a solution of torch passes on the gradient of a penalty that its caller knows nothing of."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch.amp import grad_scaler
from torch.optim.optimizer import register_optimizer_step_post_hook

from solvertap import Passage, Patches, regularizing

from .backward import differentiates

_scale: Any = None  # of the loss whose backward pass is at work, where a `GradScaler` has scaled it


def attach(patches: Patches) -> None:
    """Places the tap on what scales a loss."""
    patches.replace(grad_scaler.GradScaler, "scale", _tapped_scale)


def inject(solution: Any, passage: Passage) -> Any:
    """The tensors of a solution behind one identity."""
    _listen()
    passage.record(differentiates(), passage.stats, [value.detach() for value in passage.values])
    tensors = [x for x in _flat(solution) if x.requires_grad]
    values = [(w, x) for w, x in zip(passage.weights(), passage.values, strict=True) if x.requires_grad]
    if not tensors or not values:
        return solution
    weights = tuple(weight for weight, _ in values)
    passed = iter(_Passed.apply(weights, *(x for _, x in values), *tensors))  # type: ignore[no-untyped-call]  # torch's
    return _rebuilt(solution, passed)


class _Passed(torch.autograd.Function):
    """Of values and tensors the tensors; to the gradient of each value its weight is added."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weights: Any, *inputs: Any) -> Any:
        return tuple(x.clone() for x in inputs[len(weights) :])

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG004  # as torch calls it
        ctx.weights = inputs[0]
        ctx.like = [(x.dtype, x.device) for x in inputs[1 : 1 + len(ctx.weights)]]

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        scale = 1.0 if _scale is None else _scale
        weights = [
            torch.as_tensor(weight, dtype=dtype, device=device) * scale
            for weight, (dtype, device) in zip(ctx.weights, ctx.like, strict=True)
        ]
        return None, *weights, *cotangents


def _tapped_scale(scale: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(scale)
    def tapped(self: Any, outputs: Any) -> Any:
        scaled = scale(self, outputs)
        if regularizing() is not None and self.is_enabled():
            for x in _flat(scaled):
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


_listening = False


def _listen() -> None:
    global _listening
    if not _listening:
        _listening = True
        register_optimizer_step_post_hook(_stepped)


def _stepped(optimiser: Any, *_: Any) -> None:
    regularizer = regularizing()
    if regularizer is not None:
        regularizer.optimiser_stepped(optimiser)


def _flat(solution: Any) -> list[Any]:
    if isinstance(solution, torch.Tensor):
        return [solution]
    return [x for part in solution for x in _flat(part)] if isinstance(solution, tuple | list) else []


def _rebuilt(solution: Any, passed: Any) -> Any:
    if isinstance(solution, torch.Tensor):
        return next(passed) if solution.requires_grad else solution
    if not isinstance(solution, tuple | list):
        return solution
    return type(solution)(_rebuilt(part, passed) for part in solution)
