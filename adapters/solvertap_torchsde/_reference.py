"""torchsde's own loop with the reference steps: what `observe(align=True)` asks for."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any

from torchsde._core import adaptive_stepping

from solvertap import local_error, step_factor

from ._method import error_order

if TYPE_CHECKING:
    from ._tap import Tap


class _ReferenceStepping:
    """Stands in for the module `adaptive_stepping`: the error scaled by y0 and y1, an integral controller."""

    def __init__(self, tap: Tap) -> None:
        self.tap = tap
        self.error_order = error_order(tap.solver)

    def compute_error(self, *args: Any) -> float:
        adaptive_stepping.compute_error(*args)  # for what it has to say of a NaN
        return float(local_error(self.tap.attempt))

    def update_step_size(self, error_estimate: float, **_: Any) -> tuple[Any, None]:
        # From the step that was taken, which the end of the solve may have cut.
        return abs(self.tap.attempt.h) * step_factor(error_estimate, self.error_order), None


def with_reference_steps(integrate: Callable[..., Any], tap: Tap) -> Callable[..., Any]:
    """base_solver.py::BaseSDESolver.integrate, its code untouched, finding another controller under the name."""
    code: Any = integrate
    stepping = {"adaptive_stepping": _ReferenceStepping(tap)}
    return FunctionType(code.__code__, code.__globals__ | stepping, code.__name__, code.__defaults__, code.__closure__)
