"""How torch is told a derivative that is written out: one node of its graph for several steps.

The node keeps the states, which torch keeps anyway to differentiate the field, and of the slopes the sums that the
terms are made of. What is computed from them in the forward pass is computed once more in the backward pass. The sums
are outputs of the node, so that whoever differentiates twice comes back to the slopes, of which none is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd import forward_ad

from solvertap import Step, StepTerm

from ._batch import StepBatch
from ._slope_sums import joined

_TOGETHER = 2**16  # elements of small steps that are measured together


def is_transformed() -> bool:
    """Whether forward mode is at work, which an `autograd.Function` of ours does not serve."""
    return forward_ad._current_level >= 0


def steps_together(y: Any) -> int:
    """So many that a small state costs few operations, and a large one is never held twice."""
    return max(1, _TOGETHER // max(1, int(y.numel())))


def analytic(terms: Sequence[StepTerm], steps: Sequence[Step]) -> Sequence[Any]:
    """What terms measure on accepted steps whose states are single tensors."""
    block = StepBatch.of(terms, steps)
    known = steps[0].error_ratio is not None and all(term.known(steps[0]) is not None for term in terms)
    # In a tuple, in which torch looks for no tensors to differentiate by.
    size = None if steps[0].error_ratio is None else joined([step.error_ratio for step in steps])
    given = known, size, block.errors(steps)
    outputs: Sequence[Any] = _Measured.apply(terms, block, given, *block.tensors(steps))  # type: ignore[no-untyped-call]
    return outputs[: len(terms)]


class _Measured(torch.autograd.Function):
    """The values of terms on the steps of a block, and its sums of slopes; differentiated by `StepTerm.gradient`."""

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
        terms, block, saved = ctx.terms, ctx.block, ctx.saved_tensors  # once: `torch.utils.checkpoint` gives them away
        count, split = len(terms), len(terms) + block.split
        step = block.step(saved[count:split], saved[split:])
        asked = [x for x in zip(terms, cotangents, saved, strict=False) if x[1] is not None]
        gradients = [term.gradient(step, by, value) for term, by, value in asked]
        return None, None, None, *block.by_tensor(gradients, cotangents[count:])


def _value(term: StepTerm, step: Step) -> Any:
    value = term.known(step)
    # A copy: torch takes an output that is an input for a constant, where it is differentiated twice.
    return term.measure(step) if value is None else value.clone()
