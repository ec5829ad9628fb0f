"""Solves that have exactly one illness, and solves that have none, each the same in two frameworks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

import solvertap as tap


@dataclass(frozen=True)
class Case:
    """One solve.

    Attributes:
        slope: maps the array namespace, t and y to the slope.
        y0, end: the start at time 0, and the end.
        tolerance: rtol and atol.
        first: the size of the first step; None for the solver's own choice.
        stops: times at which a step must end.
        bits: of the numbers.
        controller: of the step sizes, as arguments of diffrax's `PIDController`.
    """

    slope: Callable[[Any, Any, Any], Any]
    y0: tuple[float, ...] = (1.0, 0.5)
    end: float = 1.0
    tolerance: float = 1e-6
    first: float | None = None
    stops: tuple[float, ...] = ()
    bits: int = 64
    controller: dict[str, float] = field(default_factory=dict)


def _decay(xp, t, y):
    return -y


def _oscillator(xp, t, y):
    return xp.stack([y[1], -y[0]])


def _van_der_pol(stiffness):
    return lambda xp, t, y: xp.stack([y[1], stiffness * (1 - y[0] ** 2) * y[1] - y[0]])


def _lotka_volterra(xp, t, y):
    return xp.stack([1.5 * y[0] - y[0] * y[1], y[0] * y[1] - 3 * y[1]])


def _forced(xp, t, y):
    return -y + xp.sin(3 * t)


def _square_wave(xp, t, y):
    return xp.sign(xp.sin(6 * t)) - y


ILL = {
    "stability": Case(lambda xp, t, y: -1000 * (y - xp.cos(t)), tolerance=1e-4),
    "rounding": Case(_forced, tolerance=1e-9, bits=32),
    "accuracy": Case(_oscillator, end=20.0, tolerance=1e-9),
    "first step": Case(_decay, first=1e-9, end=2.0),
    "last steps": Case(_decay, end=2.0, stops=tuple(0.05 * k for k in range(1, 40))),
    "kinks": Case(_square_wave, end=5.0),
    "rejections": Case(_van_der_pol(1.0), (2.0, 0.0), end=20.0, tolerance=1e-2),
}

HEALTHY = {
    "decay": Case(_decay, end=2.0),
    "backwards": Case(_decay, end=-2.0),
    "oscillator": Case(_oscillator, end=3.0),
    "van der pol": Case(_van_der_pol(1.0), (2.0, 0.0), end=4.0, tolerance=1e-4),
    "lotka volterra": Case(_lotka_volterra, (1.0, 1.0), end=3.0, tolerance=1e-4),
    "forced": Case(_forced, end=3.0),
    "loose": Case(_lotka_volterra, (1.0, 1.0), end=5.0, tolerance=1e-2),
    "single precision": Case(_forced, end=2.0, tolerance=1e-5, bits=32),
    "constant": Case(lambda xp, t, y: 0 * y + 1.0),
    "two stops": Case(_forced, end=3.0, stops=(1.0, 2.0)),
}


def by_torchdiffeq(case):
    """What was seen of the solve of a case in torchdiffeq, with its trace."""
    torch = pytest.importorskip("torch")
    odeint = pytest.importorskip("torchdiffeq").odeint
    dtype = torch.float64 if case.bits == 64 else torch.float32
    options = {} if case.first is None else {"first_step": case.first}
    if case.stops:
        options["step_t"] = torch.tensor(case.stops, dtype=dtype)
    times = torch.tensor([0.0, case.end], dtype=dtype)
    with tap.observe(trace=True) as seen:
        odeint(
            lambda t, y: case.slope(torch, t, y),
            torch.tensor(case.y0, dtype=dtype),
            times,
            rtol=case.tolerance,
            atol=case.tolerance,
            method="dopri5",
            options=options,
        )
    return seen


def by_diffrax(case, solver="Dopri5"):
    """What was seen of the solve of a case in diffrax, with its trace."""
    diffrax = pytest.importorskip("diffrax")
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    controller = diffrax.PIDController(rtol=case.tolerance, atol=case.tolerance)
    if case.stops:
        controller = diffrax.ClipStepSizeController(controller, step_ts=jnp.array(case.stops))
    with tap.observe(trace=True) as seen:
        diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, _: case.slope(jnp, t, y)),
            getattr(diffrax, solver)(),
            0.0,
            case.end,
            case.first,
            jnp.array(case.y0, dtype=jnp.float64 if case.bits == 64 else jnp.float32),
            stepsize_controller=controller,
        )
    return seen
