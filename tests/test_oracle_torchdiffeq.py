"""Every adaptive method of torchdiffeq, every term: value and gradient against a replay on the frozen grid."""

from functools import cache

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")

from torchdiffeq import odeint
from torchdiffeq._impl import rk_common
from torchdiffeq._impl.misc import _PerturbFunc
from torchdiffeq._impl.odeint import SOLVERS

import solvertap as tap
from solvertap import errors
from tests.cells import proves, refuses
from tests.oracle import TERMS, Replayed, assert_gradient_matches, total

ADAPTIVE = [name for name, solver in SOLVERS.items() if issubclass(solver, rk_common.RKAdaptiveStepsizeODESolver)]
FIXED = [name for name in SOLVERS if name not in ADAPTIVE]
# Where errors are small, S is a quotient of roundings; the low orders would take thousands of steps.
TOLERANCE = {"dopri5": 1e-6, "tsit5": 1e-6, "dopri8": 1e-3, "bosh3": 1e-4, "fehlberg2": 1e-3, "adaptive_heun": 1e-3}
TIMES = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
Y0 = torch.tensor([[1.0, -0.5, 0.3], [0.2, 0.8, -1.0]], dtype=torch.float64)
WEIGHTS = torch.randn(9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def field(weights):
    """A random tanh field with a kink in its forcing, so that every method rejects steps."""
    return lambda t, y: 4 * torch.tanh(y @ weights.reshape(3, 3)) + 20 * torch.relu(t - 0.5) - y


@cache
def observe(method, name):
    """The term, its gradient, and the accepted steps."""
    weights = WEIGHTS.clone().requires_grad_()
    with tap.observe(TERMS[name], trace=True) as seen:
        # The automatic first step is so small that its error is mostly rounding; this one is rejected instead.
        tolerance, options = TOLERANCE[method], {"first_step": 0.5}
        odeint(field(weights), Y0, TIMES, rtol=tolerance, atol=tolerance, method=method, options=options)
    trace = seen.trace.numpy()
    steps = np.stack([trace["t"], trace["h"]], axis=1)[trace["accepted"]]
    (gradient,) = torch.autograd.grad(seen.penalty, weights)
    return seen, gradient.numpy(), steps


def replay(method, weights, steps):
    """The recorded steps with other weights: the stage states rebuilt, and the field evaluated there."""
    f, tableau = field(torch.as_tensor(weights)), SOLVERS[method].tableau
    rows = [torch.zeros(1, dtype=torch.float64), *tableau.beta]
    nodes = [0.0, *tableau.alpha.tolist()]
    y, slope, replayed = Y0, f(torch.as_tensor(steps[0, 0]), Y0), []
    for t, h in torch.as_tensor(steps):
        t1 = t + h
        y1, slope1, error, k = rk_common._runge_kutta_step(_PerturbFunc(f), y, slope, t, h, t1, tableau)
        stages = [y + h * sum(a * k[..., i] for i, a in enumerate(row)) for row in rows]
        if nodes[-2:] == [1, 1]:
            a, b = stages[-1], stages[-2]
        elif torch.allclose(stages[-1], y1, rtol=0, atol=1e-14):
            a, b = y1, y1 - error
        else:
            a, b = y1, stages[-1]
        arrays = (x.numpy() for x in (y, y1, error, a, b, f(t1, a), f(t1, b)))
        slopes = k.movedim(-1, 0).numpy()
        replayed.append(Replayed(h.item(), *arrays, k=slopes, c=nodes))
        y, slope = y1, slope1
    return replayed


@pytest.mark.parametrize(
    ("method", "name"),
    [
        pytest.param(method, name, marks=proves("torchdiffeq", method, [name], "value", "gradient"))
        for method in ADAPTIVE
        for name in TERMS
    ],
)
def test_value_and_gradient_are_those_of_the_frozen_grid(method, name):
    seen, gradient, steps = observe(method, name)
    assert seen.stats.rejected > 0

    def value(weights):
        return total(name, replay(method, weights, steps), TOLERANCE[method], TOLERANCE[method])

    assert seen.penalty.item() == pytest.approx(value(WEIGHTS.numpy()), rel=1e-9)
    assert_gradient_matches(value, WEIGHTS.numpy(), gradient)


@pytest.mark.parametrize("method", ADAPTIVE)
def test_stiffness_costs_what_the_tableau_leaves_open(method):
    seen, bare = observe(method, "stiffness")[0], observe(method, "local_error")[0]
    free = method in ("dopri5", "tsit5", "dopri8")
    assert seen.stats.evaluations - bare.stats.evaluations == (0 if free else seen.stats.accepted)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        pytest.param(
            method, name, marks=refuses("torchdiffeq", method, [name], "fixed steps: no error estimate of its own")
        )
        for method in FIXED
        for name in TERMS
    ],
)
def test_fixed_steps_are_refused(method, name):
    with pytest.raises(errors.FixedStepError), tap.observe(TERMS[name]):
        odeint(field(WEIGHTS), Y0, TIMES, method=method)
