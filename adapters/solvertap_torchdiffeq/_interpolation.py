"""The interpolation of a step, fitted when it is read.

torchdiffeq fits a polynomial to every accepted step, and reads those in which the caller wants the solution: often the
last one alone. The others cost about a tenth of a training step, which is more than a penalty does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torchdiffeq._impl import rk_common


class State(rk_common._RungeKuttaState):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    """What torchdiffeq has after an attempt, in which nothing was fitted."""

    @property
    def interp_coeff(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The coefficients."""
        found = self[-1]
        return found() if isinstance(found, Fit) else found


class Fit:
    """The coefficients of one step, with the gradient that they would have had at once."""

    def __init__(self, fit: Callable[..., Any], *step: Any) -> None:
        self.fitted = partial(fit, *step)
        self.recording = torch.is_grad_enabled()  # an event looks for its time without
        self.found: Any = None

    def __call__(self) -> Any:
        if self.found is None:
            with torch.set_grad_enabled(self.recording):
                self.found = self.fitted()
            del self.fitted  # which holds the step, and the solver that holds this
        return self.found

    def forget(self) -> None:
        """Says that nobody will read it: the solve has failed."""
        if self.found is None:
            self.found = ()
            del self.fitted
