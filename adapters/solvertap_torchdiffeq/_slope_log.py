"""The slopes of an attempt, as the field returned them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from solvertap_torch.version import version_of

LoggedSlope = tuple[Any, float]
"""A slope with its version when the field returned it."""


class Attempt(NamedTuple):
    """An attempt that is not settled yet.

    Attributes:
        inputs: y0, f0, t0, t1, then the result.
        slopes: as the field returned them.
        tableau: torchdiffeq's own.
    """

    inputs: tuple[Any, ...]
    slopes: list[LoggedSlope]
    tableau: Any


class SlopeLog:
    """The slopes that a field returns during an attempt.

    torch usually saves these slopes anyway, and would save the solver's stack of slopes only for us. The two differ if
    the field returns a buffer that it overwrites later, or a shape or dtype other than the state's.

    Attributes:
        recording: the slopes of the current attempt so far; None outside of an attempt, or if no term needs them.
        slopes: those of the last attempt.
    """

    def __init__(self) -> None:
        self.recording: list[LoggedSlope] | None = None
        self.slopes: list[LoggedSlope] = []
        self._ends: tuple[Any, Any] = (None, None)  # the first and the last slope of the last attempt

    def begin(self, f0: Any) -> None:
        """Starts an attempt whose first slope is f0."""
        self.recording = [self._first(f0)]

    def end(self, first: Any, last: Any) -> None:
        """Ends an attempt, given its first and last slope as the solver has them."""
        self._ends = first, last
        self.slopes, self.recording = self.recording or [], None

    def last(self, f1: Any, is_part_of_state: Callable[[], bool]) -> Any:
        """The last slope of an attempt as a tensor of its own, not as a view of the stack.

        A view would keep the whole stack alive with the next step, and its gradient would be as large as the stack. The
        copy is for a field that writes to what it has returned.

        Args:
            f1: the view.
            is_part_of_state: whether the slope enters the final state. It then stays a view, because torch would add
                the gradients in another order.
        """
        if not self.recording or not _are_unchanged(self.recording[-1:], f1.shape, f1.dtype) or is_part_of_state():
            return f1
        return self.recording[-1][0].clone()

    def of_stack(self, stack: Any) -> list[Any]:
        """The slopes of the last attempt as the field returned them; those of the stack if they have changed."""
        *shape, stages = stack.shape
        if len(self.slopes) == stages and _are_unchanged(self.slopes, torch.Size(shape), stack.dtype):
            return [k for k, _ in self.slopes]
        return list(stack.unbind(-1))

    def _first(self, f0: Any) -> LoggedSlope:
        """The first slope of an attempt, with its version."""
        first, last = self._ends
        if f0 is first:  # the last attempt was rejected
            return self.slopes[0]
        if f0 is last:
            # It was accepted, and f0 is a view of its stack. The slope that the field returned is equal, and does not
            # keep the stack alive.
            return self.slopes[-1]
        return f0, version_of(f0)


def _are_unchanged(logged: list[LoggedSlope], shape: Any, dtype: Any) -> bool:
    """Whether slopes are unchanged since the field returned them, and have the shape and dtype of the state."""
    for slope, version in logged:
        if slope.is_inference() or slope._version != version or slope.dtype != dtype or slope.shape != shape:
            return False
    return True
