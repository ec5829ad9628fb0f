"""The two terms of Pal, Ma, Shah and Rackauckas, "Opening the Blackbox" (ICML 2021, arXiv 2105.03918)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from ..errors import InvalidInputError, NoEstimateError
from ..steps.arrays import Array
from ..steps.gradient import Gradient
from ..steps.local_error import Scale, error_rows, local_error, local_error_gradient, tolerances
from ..steps.step import Step
from ..steps.stiffness import stiffness, stiffness_gradient
from .step_term import StepTerm

Estimate = Literal["solver", "doubling"]

TSIT5_STABILITY_SIZE = 3.5068
"""The stability size of Tsit5 by which Pal21's code divides S (OrdinaryDiffEq.jl, `alg_stability_size`)."""

SOSRI2_STABILITY_SIZE = 10.6
"""That of SOSRI2, by which the code divides for its SDEs (StochasticDiffEq.jl, `alg_stability_size`)."""


@dataclass(frozen=True, kw_only=True)
class LocalError(StepTerm):
    """R_E: the local error estimates of the accepted steps, by default sum_j E_j |h_j|.

    Attributes:
        scale: "tolerance" divides the error by atol + rtol max(|y0|, |y1|), as Pal21's code does and as its
            weights assume; "raw" leaves it alone, as its text writes.
        estimate: "solver" is the solver's own; "doubling" is for solvers that have none, and for fixed steps: each step
            is taken in two halves as well, y1 minus which is the error. The solution stays the solver's own; it costs
            two more steps for each.
        rtol, atol: replace the tolerances of the solve; needed where a solve has none, such as one over
            prescribed steps.
        weigh_by_step: whether E_j is multiplied by |h_j|.
        reduce: "sum", "mean" or "max" over the accepted steps.

    Raises NoEstimateError where the solver has no estimate, or one of its own and "doubling" is asked for.
    It carries gradient to whatever the states depend on. Times and step sizes are held fixed.
    """

    stacks: ClassVar[bool] = True

    name: str = "local_error"
    scale: Scale = "tolerance"
    estimate: Estimate = "solver"
    rtol: float | None = None
    atol: float | None = None
    weigh_by_step: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale not in get_args(Scale):
            raise InvalidInputError(f"`scale` is {self.scale!r}; the choices are: 'tolerance', 'raw'.")
        if self.estimate not in get_args(Estimate):
            raise InvalidInputError(f"`estimate` is {self.estimate!r}; the choices are: 'solver', 'doubling'.")
        for name, value in (("rtol", self.rtol), ("atol", self.atol)):
            if value is not None and (isinstance(value, str) or not value >= 0):
                raise InvalidInputError(f"`{name}` is {value!r}; a tolerance is a number, zero or more.")

    @property
    def needs_step_doubling(self) -> bool:
        return self.estimate == "doubling"

    def measure(self, step: Step) -> Array:
        if self.needs_step_doubling and not step.doubled:
            raise NoEstimateError(
                '`LocalError(estimate="doubling")` was asked of a solver that estimates its own error; leave it out.'
            )
        return local_error(step, self.scale, self.rtol, self.atol)

    def known(self, step: Step) -> Array | None:
        own = self.scale == "tolerance" and self.rtol is None and self.atol is None
        return step.error_ratio if own else None

    def has_gradient(self, step: Step) -> bool:
        return step.norm is None

    def rows(self, step: Step) -> tuple[tuple[float, ...], ...]:
        return error_rows(step)

    def gradient(self, step: Step, by: Array | float, value: Array) -> Gradient:
        return local_error_gradient(step, by, value, tolerances(step, self.scale, self.rtol, self.atol))


@dataclass(frozen=True, kw_only=True)
class Stiffness(StepTerm):
    """R_S: the stiffness estimates of the accepted steps, by default sum_j S_j.

    Attributes:
        weigh_by_step: whether S_j is multiplied by |h_j|: Pal's thesis does, the paper's code does not.
        reduce: "sum", "mean" or "max" over the accepted steps.
        stability_size: S_j is divided by it; "solver" is that of the method in use, so that |h| S_j <= 1 about
            where its steps are stable. Pal21's code divides by `TSIT5_STABILITY_SIZE`.

    Raises NoEstimateError where "solver" is asked for and the method has no bounded stability size.
    It carries gradient to whatever the states depend on. Times and step sizes are held fixed.
    """

    stacks: ClassVar[bool] = True

    name: str = "stiffness"
    stability_size: float | Literal["solver"] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        size = self.stability_size
        if size != "solver" and (isinstance(size, str) or not size > 0):
            raise InvalidInputError(f"`stability_size` is {size!r}; it is a positive number, or 'solver'.")

    @property
    def measures_stiffness(self) -> bool:
        return True

    def measure(self, step: Step) -> Array:
        return stiffness(step) / self._size(step)

    def has_gradient(self, step: Step) -> bool:
        return step.stages is not None and step.stages.tableau.end_gaps is not None

    def rows(self, step: Step) -> tuple[tuple[float, ...], ...]:
        return (None if step.stages is None else step.stages.tableau.end_gaps) or ()

    def gradient(self, step: Step, by: Array | float, value: Array) -> Gradient:
        size = self._size(step)
        return stiffness_gradient(step, by / size, value * size)

    def _size(self, step: Step) -> float:
        if not isinstance(self.stability_size, str):
            return self.stability_size
        if step.stability_size is None:
            raise NoEstimateError(
                '`Stiffness(stability_size="solver")` was asked of a method whose stability on the negative axis is '
                "unbounded or not known; give a number."
            )
        return step.stability_size
