"""Analytic derivatives in torch: one autograd node for several steps.

The node saves the states, which torch saves anyway to differentiate the field, and the sums of slopes that the terms
use. The backward pass recomputes everything else from these. The sums are outputs of the node, so a second derivative
reaches the slopes without the node saving any.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd import forward_ad

from solvertap import Step, StepTerm

from ._batch import StepBatch
from ._slope_sums import joined

_TOGETHER = 2**16  # elements of the steps that one node measures


def is_transformed() -> bool:
    """Whether forward mode is active, which our `autograd.Function` does not support."""
    return forward_ad._current_level >= 0


def steps_together(y: Any) -> int:
    """How many steps one node measures: many of a small state, one of a large state, which must not be copied."""
    return max(1, _TOGETHER // max(1, int(y.numel())))


def analytic(terms: Sequence[StepTerm], steps: Sequence[Step]) -> Sequence[Any]:
    """The values of terms on accepted steps whose states are single tensors."""
    block = StepBatch.of(terms, steps)
    known = steps[0].error_ratio is not None and all(term.known(steps[0]) is not None for term in terms)
    # The tuple `given` hides these from torch, which differentiates only by tensors passed directly.
    size = None if steps[0].error_ratio is None else joined([step.error_ratio for step in steps], block.batch)
    given = known, size, block.errors(steps)
    outputs: Sequence[Any] = _Measured.apply(terms, block, given, *block.tensors(steps))  # type: ignore[no-untyped-call]
    return outputs[: len(terms)]


class _Measured(torch.autograd.Function):
    """The values of terms on a batch of steps, and its sums of slopes; `StepTerm.gradient` differentiates them."""

    @staticmethod
    def forward(ctx: Any, terms: Any, block: Any, given: Any, *tensors: Any) -> Any:
        ctx.terms, ctx.block = terms, block
        ctx.set_materialize_grads(False)
        known, size, errors = given
        states, slopes = tensors[: block.split], tensors[block.split :]
        sums = block.sums(slopes, errors)
        step = block.step(*((), ()) if known else (states, sums), size)
        values = [_value(term, step) for term in terms]
        ctx.save_for_backward(*values, *states, *sums)
        return *values, *sums

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        terms, block, saved = ctx.terms, ctx.block, ctx.saved_tensors  # once: reading frees a checkpoint's
        count, split = len(terms), len(terms) + block.split
        saved = block.harmless(saved, count)
        step = block.step(saved[count:split], saved[split:])
        needed = [x for x in zip(terms, cotangents, saved, strict=False) if x[1] is not None]
        gradients = [term.gradient(step, by, value) for term, by, value in needed]
        return None, None, None, *block.by_tensor(gradients, cotangents[count:])


def _value(term: StepTerm, step: Step) -> Any:
    value = term.known(step)
    # A copy: torch treats an output that is also an input as a constant in second derivatives.
    return term.measure(step) if value is None else value.clone()
