"""How a solution of torch passes on the gradient of a penalty that its caller knows nothing of."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from solvertap import Passage, regularizing

from ._scale import flat, scaled
from .backward import differentiates, hold


def inject(solution: Any, passage: Passage) -> Any:
    """The tensors of a solution behind one identity."""
    _listen()
    passage.record(differentiates(), passage.stats, [value.detach() for value in passage.values])
    tensors = [x for x in flat(solution) if x.requires_grad]
    pairs = [(w, x) for w, x in zip(passage.weights(), passage.values, strict=True) if x.requires_grad]
    weights, values = [weight for weight, _ in pairs], [value for _, value in pairs]
    if pairs and hold(weights, values):  # inside an adjoint, where no solution has a graph
        return solution
    if not pairs or not tensors:
        return solution
    passed = iter(_Passed.apply(weights, *values, *tensors))  # type: ignore[no-untyped-call]  # torch's
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
        ctx.kinds = [(x.dtype, x.device) for x in inputs[1 : 1 + len(ctx.weights)]]

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        return None, *scaled(ctx.weights, ctx.kinds), *cotangents


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


def _rebuilt(solution: Any, passed: Any) -> Any:
    if isinstance(solution, torch.Tensor):
        return next(passed) if solution.requires_grad else solution
    if not isinstance(solution, tuple | list):
        return solution
    return type(solution)(_rebuilt(part, passed) for part in solution)
