"""Three more terms that cost no evaluation. A user could write each with `term`; here it stands with its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..steps.arithmetic import safe_sqrt
from ..steps.arrays import Array
from ..steps.gradient import Gradient, settled
from ..steps.slopes import kinetic_energy, slope_change
from ..steps.step import Step
from .error_and_stiffness import LocalError
from .step_term import StepTerm


@dataclass(frozen=True, kw_only=True)
class SquaredLocalError(LocalError):
    """The squares of the local error estimates, by default sum_j E_j^2 |h_j|, as in the appendix of Pal21.

    It weighs the worst steps more, and its derivative at a zero error is zero by itself. Attributes and what is
    held fixed: as for `LocalError`.
    """

    stacks: ClassVar[bool] = True

    name: str = "squared_local_error"

    def measure(self, step: Step) -> Array:
        return super().measure(step) ** 2

    def known(self, step: Step) -> Array | None:
        size = super().known(step)
        return None if size is None else size**2

    def has_gradient(self, step: Step) -> bool:
        return super().has_gradient(step)

    def gradient(self, step: Step, by: Array | float, value: Array) -> Gradient:
        size = safe_sqrt(value)
        return super().gradient(step, 2 * settled(step, size)(size) * by, size)


@dataclass(frozen=True, kw_only=True)
class KineticEnergy(StepTerm):
    """The kinetic energy of the trajectory, by default sum_j h_j mean|f|^2, about int |f|^2 dt.

    Finlay, Jacobsen, Nurbekyan, Oberman, How to Train Your Neural ODE (ICML 2020, arXiv 2002.02798), from the
    slopes of the steps instead of a state that is integrated along. Needs a solver that shows its slopes.

    It carries gradient to whatever the slopes depend on. Times and step sizes are held fixed.
    """

    stacks: ClassVar[bool] = True

    name: str = "kinetic_energy"
    weigh_by_step: bool = True

    def measure(self, step: Step) -> Array:
        return kinetic_energy(step)


@dataclass(frozen=True, kw_only=True)
class SlopeChange(StepTerm):
    """How fast the slope turns, by default sum_j h_j mean|y''|^2, about int |d^2 y / dt^2|^2 dt.

    The second derivative is the divided difference of the first and the last slope of a step, where TayNODE has
    the exact one at the price of a nested derivative (Kelly, Bettencourt, Johnson, Duvenaud, Learning
    Differential Equations that are Easy to Solve, NeurIPS 2020, arXiv 2007.04504, R_K with K = 2).

    It carries gradient to whatever the slopes depend on. Times and step sizes are held fixed.
    """

    stacks: ClassVar[bool] = True

    name: str = "slope_change"
    weigh_by_step: bool = True

    def measure(self, step: Step) -> Array:
        return slope_change(step)
