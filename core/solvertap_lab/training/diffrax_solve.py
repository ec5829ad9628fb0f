"""A neural ODE and a neural SDE in diffrax."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import diffrax
import jax.numpy as jnp
import lineax

from ..problems.problem import Problem
from .solvers import ODES, SDES
from .trainer import Setting

Field = Callable[[Any, Any], Any]

_MAX_STEPS = 1024

_ODES: dict[str, Any] = dict(
    zip(ODES["diffrax"], (diffrax.Dopri5, diffrax.Tsit5, diffrax.Bosh3, diffrax.Dopri8), strict=True)
)
# With what each is told of the Brownian path over a step.
_SDES: dict[str, tuple[Any, Any]] = {
    "half-heun": (diffrax.HalfSolver(diffrax.Heun()), diffrax.BrownianIncrement),
    "half-midpoint": (diffrax.HalfSolver(diffrax.Midpoint()), diffrax.BrownianIncrement),
    "spark": (diffrax.SPaRK(), diffrax.SpaceTimeLevyArea),
}


def diffrax_solve(setting: Setting, parameters: Any, y0: Any, key: Any) -> Any:
    """The states at the times of the problem; the key draws the Brownian path of an SDE."""
    problem, times = setting.problem, times_of(setting.problem, y0)
    if problem.stochastic:
        return _solve_sde(setting, parameters, y0, times, key).ys
    return solve_ode(setting, partial(problem.field, parameters), y0, times).ys


def times_of(problem: Problem, y0: Any) -> Any:
    """The times at which the solution is wanted, in the precision of the state."""
    return jnp.asarray(problem.times, dtype=y0.dtype)


def controller_of(setting: Setting, **options: Any) -> Any:
    """The step-size controller with the tolerance of the setting."""
    return diffrax.PIDController(rtol=setting.tolerance, atol=setting.tolerance, **options)


def solve_ode(
    setting: Setting,
    field: Field,
    y0: Any,
    times: Any,
    controller: Any = None,
) -> Any:
    """The solution of y' = field(t, y) over the times.

    Args:
        setting: has the solver, the tolerance and the first step.
        field: maps a time and a state to the slope.
        y0: the state at the first time, an array or a pytree.
        times: where the solution is wanted, the first one being the start; they may be traced.
        controller: of the step sizes, by default that of the setting.
    """
    return diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, _: field(t, y)),
        _ODES[setting.solver or ODES["diffrax"][0]](),
        times[0],
        times[-1],
        setting.problem.first_step,
        y0,
        saveat=diffrax.SaveAt(ts=times),
        stepsize_controller=controller_of(setting) if controller is None else controller,
        max_steps=_MAX_STEPS,
    )


def _solve_sde(setting: Setting, parameters: Any, y0: Any, times: Any, key: Any) -> Any:
    problem = setting.problem
    solver, levy_area = _SDES[setting.solver or SDES["diffrax"][0]]
    path = diffrax.VirtualBrownianTree(times[0], times[-1], 1e-4, y0.shape, key, levy_area)
    drift = diffrax.ODETerm(lambda t, y, _: problem.field(parameters, t, y))
    diffusion = lambda t, y, _: lineax.DiagonalLinearOperator(problem.diffusion(parameters, t, y))  # noqa: E731
    terms: Any = diffrax.MultiTerm(drift, diffrax.ControlTerm(diffusion, path))
    return diffrax.diffeqsolve(
        terms,
        solver,
        times[0],
        times[-1],
        problem.first_step,
        y0,
        saveat=diffrax.SaveAt(ts=times),
        stepsize_controller=controller_of(setting, pcoeff=0.1, icoeff=0.3),
        max_steps=_MAX_STEPS,
    )
