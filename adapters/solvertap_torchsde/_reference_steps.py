"""torchsde's own loop with the reference steps, for `observe(align=True)`."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from torchsde._core import adaptive_stepping

from solvertap import Step, local_error
from solvertap.adapting import step_factor


class _ReferenceStepping:
    """Replaces the module `adaptive_stepping`: the error is scaled by y0 and y1, the controller is integral."""

    def __init__(self, attempt: Callable[[], Step], order: float) -> None:
        self.attempt = attempt
        self.order = order

    def compute_error(self, *args: Any) -> float:
        adaptive_stepping.compute_error(*args)  # raises at a NaN
        return float(local_error(self.attempt()))

    def update_step_size(self, error_estimate: float, **_: Any) -> tuple[Any, None]:
        # From the size of the attempt, which the end of the solve may have cut.
        return abs(self.attempt().h) * step_factor(error_estimate, self.order), None


def with_reference_steps(
    integrate: Callable[..., Any], attempt: Callable[[], Step], order: float
) -> Callable[..., Any]:
    """base_solver.py::BaseSDESolver.integrate, the same code with another controller in its globals.

    Args:
        integrate: that function.
        attempt: returns the last attempt.
        order: of its error.
    """
    code: Any = integrate
    stepping = {"adaptive_stepping": _ReferenceStepping(attempt, order)}
    return FunctionType(code.__code__, code.__globals__ | stepping, code.__name__, code.__defaults__, code.__closure__)
