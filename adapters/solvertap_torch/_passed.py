"""An identity whose backward pass adds gradients if it is a training pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch._C import _functorch  # pyright: ignore[reportAttributeAccessIssue]  # a compiled module

from ._flat import flat
from ._grad_scaler import scaled
from ._training import Carrier


def pass_on(solution: Any, carrier: Carrier, values: Sequence[Any]) -> Any:
    """The solution behind an identity that adds weight times the gradient of each value; unchanged without a graph."""
    tensors = [x for x in flat(solution) if x.requires_grad]
    if not tensors:
        return solution
    passed = iter(_Passed.apply(carrier, *values, *tensors))  # type: ignore[no-untyped-call]  # torch's
    return _rebuilt(solution, passed)


class _Passed(torch.autograd.Function):
    """Returns the tensors of (values, tensors); a training pass adds each weight to the cotangent of its value."""

    generate_vmap_rule = True

    @staticmethod
    def forward(carrier: Any, *inputs: Any) -> Any:
        return tuple(x.clone() for x in inputs[len(carrier.weights) :])

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG004  # torch's signature
        ctx.carrier = inputs[0]
        values = inputs[1 : 1 + len(ctx.carrier.weights)]
        ctx.kinds = [(x.dtype, x.device) for x in values]
        ctx.save_for_backward(*values)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        carrier = ctx.carrier
        if carrier.carries():
            return None, *scaled(carrier.weights, ctx.kinds), *cotangents
        if torch.is_grad_enabled() and _functorch.maybe_current_level() is None:
            # `create_graph`: the loss contains this gradient, so the training pass comes through these cotangents
            # and not through the solution.
            cotangents = _Passed.apply(carrier, *ctx.saved_tensors, *cotangents)  # type: ignore[no-untyped-call]  # torch's
        return None, *[None] * len(carrier.weights), *cotangents


def _rebuilt(solution: Any, passed: Any) -> Any:
    if isinstance(solution, torch.Tensor):
        return next(passed) if solution.requires_grad else solution
    if not isinstance(solution, tuple | list):
        return solution
    return type(solution)(_rebuilt(part, passed) for part in solution)
