"""How torch is told a derivative that is written out: one node of its graph for several steps.

The node keeps the tensors that it was given, which are those that torch keeps anyway to differentiate the field. What
is computed from them in the forward pass is computed once more in the backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd import forward_ad

from solvertap import Step, StepTerm

from ._block import Block

_TOGETHER = 2**16  # elements of small steps that are measured together


def is_transformed() -> bool:
    """Whether forward mode is at work, which an `autograd.Function` of ours does not serve."""
    return forward_ad._current_level >= 0


def steps_together(y: Any) -> int:
    """So many that a small state costs few operations, and a large one is never held twice."""
    return max(1, _TOGETHER // max(1, int(y.numel())))


def derived(terms: Sequence[StepTerm], steps: Sequence[Step]) -> Sequence[Any]:
    """What terms measure on accepted steps whose states are single tensors."""
    block, tensors, errors = Block.of(steps)
    values: Sequence[Any] = _Measured.apply(terms, block, errors, *tensors)  # type: ignore[no-untyped-call]  # torch's
    return values


class _Measured(torch.autograd.Function):
    """The values of terms on the steps of a block; differentiated by `StepTerm.gradient`."""

    @staticmethod
    def forward(ctx: Any, terms: Any, block: Any, errors: Any, *tensors: Any) -> Any:
        ctx.terms, ctx.block = terms, block
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        # The error that the solver has compared with 1, where it is differentiated as a sum of slopes.
        step = block.step(tensors, errors)
        return tuple(term.measure(step) for term in terms)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        step = ctx.block.step(ctx.saved_tensors)
        pairs = [(term, g) for term, g in zip(ctx.terms, cotangents, strict=True) if g is not None]
        return None, None, None, *ctx.block.by_tensor([term.gradient(step, g) for term, g in pairs])
