"""The interpolation of a step, fitted when it is read.

torchdiffeq fits a polynomial to every accepted step, and reads those in which the caller wants the solution: often the
last one alone. The others cost about a tenth of a training step, which is more than a penalty does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torchdiffeq._impl import rk_common


class State(rk_common._RungeKuttaState):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    """What torchdiffeq has after an attempt."""

    @property
    def interp_coeff(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The coefficients."""
        found = self[-1]
        return found() if isinstance(found, _Fit) else found


@contextmanager
def fitted_later(solver: Any) -> Iterator[None]:
    """A block in which the solver fits nothing: the attempt it makes is to be read as a `State`."""
    fit, own = solver._interp_fit, vars(solver).get("_interp_fit")
    solver._interp_fit = partial(_Fit, fit)
    try:
        yield
    finally:
        del solver._interp_fit
        if own is not None:
            solver._interp_fit = own


class _Fit:
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
