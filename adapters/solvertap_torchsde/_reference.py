"""torchsde's own loop with the reference steps: what `observe(align=True)` asks for."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any

from torchsde._core import adaptive_stepping

from solvertap import local_error, step_factor

if TYPE_CHECKING:
    from ._recording import Tap

_STRONG_ORDER = {
    # What each method guarantees whatever the noise, as diffrax has it; torchsde counts on the noise it was given.
    "Euler": 0.5,
    "EulerHeun": 0.5,
    "Heun": 0.5,
    "Midpoint": 0.5,
    "LogODEMidpoint": 0.5,
    "ReversibleHeun": 0.5,
    "MilsteinIto": 1.0,
    "MilsteinStratonovich": 1.0,
    "SRK": 1.5,
}


class _ReferenceStepping:
    """Stands in for the module `adaptive_stepping`: the error scaled by y0 and y1, an integral controller."""

    def __init__(self, tap: Tap) -> None:
        self.tap = tap
        self.error_order = _STRONG_ORDER[type(tap.solver).__name__] + 0.5

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
