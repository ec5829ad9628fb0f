"""Checks of what an adapter gives to one solve, and when."""

from __future__ import annotations

from ..steps.arrays import State
from ..steps.checking import check_step, check_values, checks_every_step, state_shapes, text
from ..steps.entries import does_not_fit
from ..steps.step import Step
from .fold import Carry, Fold


class InputCheck:
    """Checks the first step of a Python loop, every step on request, and whatever comes after the end.

    Attributes:
        due: whether the next step must be checked. Looking at it is all that the other steps cost.
    """

    def __init__(self, adapter: str, like: State | None, batch: int | None = None) -> None:
        self.due: bool = True
        self._adapter = adapter
        self._batch = batch
        self._shapes = None if like is None else state_shapes(like, "the initial state", adapter)
        self._used = False
        self._closed = False
        if batch is not None and (not self._shapes or any(tuple(shape[:1]) != (batch,) for shape in self._shapes)):
            found = f"opened a batch of {batch} solves with a state of shape {self._shapes and text(self._shapes)}"
            does_not_fit(adapter, found, "every part of `like` has the batch along its first axis")

    def counted(self, wanted: bool, measured: bool) -> None:
        """Checks a step that is only counted.

        Args:
            wanted: whether this step should have been given to `step`.
            measured: whether some steps must be given to `step`, so that the first of those is still to be checked.

        Raises:
            StepError: the solve has ended, or the step should have been given to `step`.
        """
        self._enter()
        self.due |= measured
        if wanted:
            does_not_fit(self._adapter, "counted a step of which more is asked", "hand it to `Solve.step`")

    def given(self, step: Step, fold: Fold) -> None:
        """Checks a step that a Python loop gives to `step`.

        Raises:
            StepError: the solve has ended, or the step does not fit it.
        """
        self._enter()
        if fold.traced and fold.terms:
            found = "handed over a step of a solve of which it did not say what its state is like"
            does_not_fit(self._adapter, found, "open it with `open_solve(self, like=y0)`")
        self._shapes = check_step(step, self._adapter, self._shapes, self._batch)
        if step.accepted is None:
            found = "handed over a step with `accepted=None`, which only a traced loop may say"
            does_not_fit(self._adapter, found, "a Python loop says True or False")
        if self.due:
            check_values(step, self._adapter)

    def ending(self, fold: Fold, carry: Carry | None) -> None:
        """Checks what a solve ends with.

        Raises:
            StepError: a traced loop gives no carry, or one that is not of the fold, or a Python loop gives one.
        """
        if carry is not None:
            fold.check_carry(carry)
            if self._used:
                found = "gave a carry to `finish` of a solve whose steps it handed over"
                does_not_fit(self._adapter, found, "do the one or the other")
        elif fold.traced and (fold.terms or fold.kinds):
            found = "did not say what its traced loop has carried"
            does_not_fit(self._adapter, found, "end its solve with `finish(carry)`")

    def close(self) -> None:
        """Notes that the solve has ended."""
        self._closed = self.due = True

    def _enter(self) -> None:
        if self._closed:
            found = "handed over a step after the end of its solve"
            does_not_fit(self._adapter, found, "hand each over before `finish()`, or before its block is left")
        self._used = True
        self.due = checks_every_step()
