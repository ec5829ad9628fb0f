"""Replayed terms of `jax.experimental.ode`: against the frozen grid in NumPy, and aligned against torchdiffeq."""

from functools import cache, partial

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp
from jax.experimental.ode import odeint

import solvertap as tap
from tests.cells import proves
from tests.oracle import TERMS, TakenStep, assert_gradient_matches, total, unit, weighted
from tests.quick_jit import quick_jit

TOLERANCE = 1e-5
TIMES = np.array([0.0, 0.3, 1.0])
Y0 = np.array([1.0, -0.5])
WEIGHTS = np.random.default_rng(0).normal(size=4)

# Dormand and Prince, A family of embedded Runge-Kutta formulae (1980); the error is weighted as by Shampine (1986).
C = np.array([0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1])
A = [
    [],
    [1 / 5],
    [3 / 40, 9 / 40],
    [44 / 45, -56 / 15, 32 / 9],
    [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
    [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
    [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
]
B_HAT = np.array([1951 / 21600, 0, 22642 / 50085, 451 / 720, -12231 / 42400, 649 / 6300, 1 / 60])
ERROR = np.array([*A[6], 0]) - B_HAT


def field(xp, t, y, weights):
    """A random tanh field with a kink in its forcing, so that steps are rejected."""
    late = t - 0.5
    return 4 * xp.tanh(weights.reshape(2, 2) @ y) + 10 * (late + abs(late)) - y


@quick_jit
@partial(jax.value_and_grad, has_aux=True)
def observed(weights, chosen):
    with tap.observe(weighted(chosen), replay=True, trace=True) as seen:
        slope = lambda y, t, w: field(jnp, t, y, w)  # noqa: E731  # its arguments, in the order of `odeint`
        odeint(slope, Y0, jnp.asarray(TIMES), weights, rtol=TOLERANCE, atol=TOLERANCE, mxstep=64)
    return seen.penalty, (seen.stats, seen.trace)


def replay(weights, trace):
    """The accepted steps with other weights, in NumPy."""
    y, steps = Y0, []
    for t, h in np.stack([trace["t"], trace["h"]], 1)[trace["accepted"]]:
        slopes, states = [], []
        for c, row in zip(C, A, strict=True):
            states.append(y + h * sum((a * k for a, k in zip(row, slopes, strict=True)), np.zeros(2)))
            slopes.append(field(np, t + c * h, states[-1], weights))
        error = h * (ERROR @ np.stack(slopes))
        steps.append(TakenStep(h, y, states[6], error, states[6], states[5], slopes[6], slopes[5], k=slopes, c=C))
        y = states[6]
    return steps


@cache
def found(name):
    (value, (stats, trace)), gradient = observed(jnp.asarray(WEIGHTS), unit(name))
    return float(value), stats, trace.numpy(), np.asarray(gradient)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=proves("jax_ode", "dopri5", [name], "value", "gradient")) for name in TERMS]
)
def test_value_and_gradient_are_those_of_the_frozen_grid(name):
    value, stats, trace, gradient = found(name)
    assert stats.rejected > 0
    penalty = lambda weights: total(name, replay(weights, trace), TOLERANCE, TOLERANCE)  # noqa: E731  # on this grid
    assert value == pytest.approx(penalty(WEIGHTS), rel=1e-9)
    assert_gradient_matches(penalty, WEIGHTS, gradient)


def in_jax_ode(problem, weights, y0, t1, tolerance):
    """What `tests.test_parity.in_jax` gives, by `odeint`, with a time between."""

    @quick_jit
    @partial(jax.value_and_grad, has_aux=True)
    def values(weights, chosen):
        with tap.observe(weighted(chosen), align=True, trace=True, replay=True) as seen:
            slope = lambda y, t, w: problem(jnp, t, y, w)  # noqa: E731  # as above
            times = jnp.array([0.0, 0.4 * t1, t1])
            odeint(slope, jnp.asarray(y0), times, weights, rtol=tolerance, atol=tolerance, mxstep=64)
        return seen.penalty, (seen.stats, seen.trace)

    values_found, gradients = {}, {}
    for name in TERMS:
        (values_found[name], (stats, trace)), gradients[name] = values(jnp.asarray(weights), unit(name))
    return values_found, gradients, stats, trace.numpy()


@pytest.mark.parametrize(
    "problem",
    [pytest.param(p, marks=proves("jax_ode", "dopri5", TERMS, "parity")) for p in ("random field 0", "van der pol")],
)
def test_aligned_replay_gives_the_penalty_of_torchdiffeq(problem):
    parity = pytest.importorskip("tests.test_parity")  # which needs the other libraries
    arguments = parity.PROBLEMS[problem]
    values, gradients, stats, trace = in_jax_ode(*arguments, 1e-6)
    wanted, by_torch, torch_stats, torch_trace = parity.in_torch(*arguments, "dopri5", 1e-6)
    assert stats.rejected > 0
    assert (int(stats.accepted), int(stats.rejected)) == (torch_stats.accepted, torch_stats.rejected)
    np.testing.assert_array_equal(trace["accepted"], torch_trace["accepted"])
    for name in TERMS:
        assert float(values[name]) == pytest.approx(wanted[name], rel=parity.FREE_VALUE), name
        scale = np.linalg.norm(by_torch[name])
        assert np.linalg.norm(gradients[name] - by_torch[name]) <= parity.FREE_GRADIENT * scale, name
