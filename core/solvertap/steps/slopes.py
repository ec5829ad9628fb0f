"""What is measured on the slopes of one step, as `measures` has the rest."""

from __future__ import annotations

import math
import operator
from functools import reduce

from ..errors import NoEstimateError
from .arithmetic import divisor, mean_square
from .arrays import Array, parts
from .stages import Stages
from .step import Step, step_size


def kinetic_energy(step: Step) -> Array:
    """The mean of |f|^2 over a step and over the elements of the state: `Float[Array, ""]`, differentiable.

    sum_i w_i |k_i|^2 with the weights of the trapezoidal rule on the nodes of the method: not those of the method
    itself, some of which are negative, and with them the sum where a step is coarse. The kinetic term of Finlay,
    Jacobsen, Nurbekyan, Oberman, How to Train Your Neural ODE (ICML 2020, arXiv 2002.02798), whose code puts a
    factor 1/2 before it.

    Raises:
        NoEstimateError: the solver does not show its slopes.
    """
    stages = _slopes(step, "kinetic_energy")
    size = sum(math.prod(x.shape[step.stack_ndim :]) for x in parts(step.y1))
    squares = stages.mean_squares(step.stack_ndim)
    weighted = [w * square for w, square in zip(stages.tableau.mean_weights, squares, strict=True)]
    return reduce(operator.add, weighted) / (max(size, 1) * stages.unit**2)


def slope_change(step: Step) -> Array:
    """The mean of |y''|^2 over the elements of the state, y'' from the first and the last slope: `Float[Array, ""]`.

    |k_s - k_1|^2 / ((c_s - c_1) h)^2. Times h and summed it is a divided difference for TayNODE's
    R_2 = int |d^2 y / dt^2|^2 dt: Kelly, Bettencourt, Johnson, Duvenaud, Learning Differential Equations that
    are Easy to Solve (NeurIPS 2020), eq. 1.

    Raises:
        NoEstimateError: the solver does not show two slopes at two times.
    """
    stages = _slopes(step, "slope_change")
    distance = stages.tableau.c[-1] - stages.tableau.c[0]
    if distance == 0:
        raise NoEstimateError(
            "`SlopeChange` compares two slopes of a step, and this solver shows one; use a method with stages."
        )
    return (
        mean_square(stages.step_between(0, -1), step.stack_ndim)
        / (distance * divisor(step_size(step)) * stages.unit) ** 2
    )


def _slopes(step: Step, name: str) -> Stages:
    if step.stages is None:
        raise NoEstimateError(
            f"`{name}` is measured on the slopes of a step, and this solver does not show them (step doubling, "
            "or an SDE whose stages mix drift and noise). Use an explicit Runge-Kutta method on an ODE."
        )
    return step.stages
