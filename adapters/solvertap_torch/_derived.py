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

from ._block import Block
from ._spread import joined

_TOGETHER = 2**16  # elements of small steps that are measured together


def is_transformed() -> bool:
    """Whether forward mode is at work, which an `autograd.Function` of ours does not serve."""
    return forward_ad._current_level >= 0


def steps_together(y: Any) -> int:
    """So many that a small state costs few operations, and a large one is never held twice."""
    return max(1, _TOGETHER // max(1, int(y.numel())))


def derived(terms: Sequence[StepTerm], steps: Sequence[Step]) -> Sequence[Any]:
    """What terms measure on accepted steps whose states are single tensors."""
    block = Block.of(terms, steps)
    # In a list, in which torch does not look for tensors to differentiate by: both are read, and no more.
    given = [None if steps[0].error_size is None else joined([step.error_size for step in steps]), block.errors(steps)]
    outputs: Sequence[Any] = _Measured.apply(terms, block, given, *block.tensors(steps))  # type: ignore[no-untyped-call]
    return outputs[: len(terms)]


class _Measured(torch.autograd.Function):
    """The values of terms on the steps of a block, and its sums of slopes; differentiated by `StepTerm.gradient`."""

    @staticmethod
    def forward(ctx: Any, terms: Any, block: Any, given: Any, *tensors: Any) -> Any:
        ctx.terms, ctx.block = terms, block
        ctx.set_materialize_grads(False)
        size, errors = given
        states, slopes = tensors[: block.split], tensors[block.split :]
        sums = block.sums(slopes, errors)
        values = _values(terms, block, states, sums, size)
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


def _values(terms: Any, block: Any, states: Any, sums: Any, size: Any) -> list[Any]:
    step = block.step((), (), size)
    known = [term.known(step) for term in terms]
    if any(value is None for value in known):
        step = block.step(states, sums, size)
    # A copy: torch takes an output that is an input for a constant, where it is differentiated twice.
    pairs = zip(terms, known, strict=True)
    return [term.measure(step) if value is None else value.clone() for term, value in pairs]
