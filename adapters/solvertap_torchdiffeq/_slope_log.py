"""The slopes of an attempt, as the field returned them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

Heard = tuple[Any, int]
"""A slope, and its version when the field returned it."""


class Attempt(NamedTuple):
    """An attempt of which it is not known yet whether it was accepted.

    Attributes:
        inputs: y0, f0, t0, t1, then the result.
        slopes: as the field returned them.
        tableau: torchdiffeq's own.
    """

    inputs: tuple[Any, ...]
    slopes: list[Heard]
    tableau: Any


class SlopeLog:
    """What a field returns during an attempt.

    It is what torch keeps in most cases; the stack of the solver is what it would keep for us alone. The two differ
    where the field returns a buffer that it writes to again, or another shape or dtype than the state's.

    Attributes:
        heard: during an attempt, what the field has returned so far; None outside, or where nobody asks for it.
        slopes: those of the last attempt.
    """

    def __init__(self) -> None:
        self.heard: list[Heard] | None = None
        self.slopes: list[Heard] = []
        self._ends: tuple[Any, Any] = (None, None)  # the first and the last slope of the last attempt

    def begin(self, f0: Any, wanted: bool) -> None:
        """An attempt begins with this slope."""
        self.heard = [self._first(f0)] if wanted else None

    def end(self, first: Any, last: Any) -> None:
        """The attempt has ended; its first and its last slope as the solver has them."""
        self._ends = first, last
        self.slopes, self.heard = self.heard or [], None

    def last(self, f1: Any, is_part_of_state: Callable[[], bool]) -> Any:
        """The slope at the end of an attempt, which is a view of the stack, as a tensor of its own.

        A view would keep the whole stack with the next step, and take a gradient back into one that is as large. The
        copy is for a field that writes to what it has returned.

        Args:
            f1: the view.
            is_part_of_state: whether the state at the end is made of it as well: torch would then add the gradients in
                another order.
        """
        if not self.heard or not _are_still(self.heard[-1:], f1.shape, f1.dtype) or is_part_of_state():
            return f1
        return self.heard[-1][0].clone()

    def of_stack(self, stack: Any) -> list[Any]:
        """The slopes of the last attempt: as the field returned them, or those of the stack where they have changed."""
        *shape, stages = stack.shape
        if len(self.slopes) == stages and _are_still(self.slopes, torch.Size(shape), stack.dtype):
            return [k for k, _ in self.slopes]
        return list(stack.unbind(-1))

    def _first(self, f0: Any) -> Heard:
        """The slope at the start of an attempt, and its version."""
        first, last = self._ends
        if f0 is first:  # the last attempt was rejected
            return self.slopes[0]
        if f0 is last:
            # It was accepted: this is the last slope of its stack. What the field returned is the same, and does not
            # keep the stack.
            return self.slopes[-1]
        return f0, f0._version


def _are_still(heard: list[Heard], shape: Any, dtype: Any) -> bool:
    """Whether slopes are what they were when the field returned them, in the shape and dtype of the state."""
    for slope, version in heard:
        if slope._version != version or slope.dtype != dtype or slope.shape != shape:
            return False
    return True
