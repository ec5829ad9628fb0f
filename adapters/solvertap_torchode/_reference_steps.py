"""The reference steps, for `observe(align=True)`."""

from __future__ import annotations

from typing import Any

import torch
from torchode import IntegralController

from solvertap.adapting import Solve, initial_step, step_factor
from solvertap.errors import AlignError

from ._tapped import TappedAdjoint


def with_reference_steps(tapped: TappedAdjoint, solve: Solve) -> None:
    """Has the reference controller choose the steps, by the tolerances and the norm of the caller's own.

    The last step ends at the last time in any case.

    Raises:
        AlignError: the caller's own has no tolerances.
    """
    controller = tapped.step_size_controller.inner
    if not all(hasattr(controller, name) for name in ("rtol", "atol", "norm")):
        solve.abandon()
        raise AlignError(
            f"`observe(align=True)` was asked of a solve by `{type(controller).__name__}`, which has no "
            "tolerances to choose steps by. Use `IntegralController` or `PIDController`, or leave it out."
        )
    tapped.step_size_controller.inner = _Reference(controller)


class _Reference(IntegralController):  # type: ignore[misc]  # torchode has no types
    """torchode's own controller with the first step, and the factors between steps, of the reference."""

    def __init__(self, controller: Any) -> None:
        super().__init__(0.0, 0.0, norm=controller.norm)
        self.rtol, self.atol = controller.rtol, controller.atol
        self.term = getattr(controller, "term", None)

    def dt_factor(self, state: Any, error_ratio: Any) -> Any:
        return step_factor(error_ratio, state.method_order)

    def _select_initial_step(
        self, term: Any, t0: Any, y0: Any, direction: Any, dt_max: Any, convergence_order: int, stats: Any, args: Any
    ) -> Any:
        slopes: list[Any] = []

        def field(t: Any, y: Any) -> Any:
            slopes.append(term.vf(t, y, stats, args))
            return slopes[-1]

        direction = direction.to(t0.dtype)
        h = initial_step(field, t0, y0, direction, convergence_order, self.rtol, self.atol, self.norm)
        return direction * torch.minimum(h.to(t0.dtype), dt_max), slopes[0]
