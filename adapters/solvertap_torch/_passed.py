"""An identity whose backward pass adds gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from solvertap import regularizing

from ._scale import flat, scaled


def pass_on(solution: Any, weights: Sequence[Any], values: Sequence[Any]) -> Any:
    """The solution, behind which stands weight times the gradient of each value; itself where it has no graph."""
    tensors = [x for x in flat(solution) if x.requires_grad]
    if not tensors:
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
        regularizer = regularizing()
        if regularizer is not None:
            regularizer.carry()
        return None, *scaled(ctx.weights, ctx.kinds), *cotangents


def _rebuilt(solution: Any, passed: Any) -> Any:
    if isinstance(solution, torch.Tensor):
        return next(passed) if solution.requires_grad else solution
    if not isinstance(solution, tuple | list):
        return solution
    return type(solution)(_rebuilt(part, passed) for part in solution)
