"""The interpolation of a step, fitted only when it is read.

torchdiffeq fits a polynomial to every accepted step, but reads only the steps in which the caller wants the solution,
often just the last. The unread fits cost about a tenth of a training step, more than a penalty does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torchdiffeq._impl import rk_common


class State(rk_common._RungeKuttaState):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    """torchdiffeq's state after an attempt, with the fit still to be made."""

    @property
    def interp_coeff(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The coefficients."""
        found = self[-1]
        return found() if isinstance(found, Fit) else found


class Fit:
    """The coefficients of one step, fitted on the first call, with the gradient of an immediate fit."""

    def __init__(self, fit: Callable[..., Any], *step: Any) -> None:
        self.fitted = partial(fit, *step)
        self.recording = torch.is_grad_enabled()  # an event finds its time without gradients
        self.found: Any = None

    def __call__(self) -> Any:
        if self.found is None:
            with torch.set_grad_enabled(self.recording):
                self.found = self.fitted()
            del self.fitted  # it holds the step, and the solver that holds this object
        return self.found

    def forget(self) -> None:
        """Drops the fit of a failed solve."""
        if self.found is None:
            self.found = ()
            del self.fitted
