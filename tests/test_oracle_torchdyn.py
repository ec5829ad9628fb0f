"""Every method of torchdyn, every term: value and gradient against a replay on the frozen grid."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdyn.numerics")

from torchdyn.numerics import odeint
from torchdyn.numerics.solvers.ode import SOLVER_DICT, DormandPrince45, Tsitouras45

import solvertap as tap
from solvertap import errors
from tests.cells import proves, refuses
from tests.oracle import TERMS, TakenStep, assert_gradient_matches, rms, total

ADAPTIVE = {"dopri5": DormandPrince45, "tsit5": Tsitouras45}
FIXED = ["euler", "midpoint", "rk4", "ieuler", "alf"]
# torchdyn cuts a step at each time and takes the rest of it as the next, which here is never so small that its error
# and stiffness are roundings.
TIMES = torch.tensor([0.0, 0.45, 0.97], dtype=torch.float64)
Y0 = torch.tensor([[1.0, -0.5, 0.3], [0.2, 0.8, -1.0]], dtype=torch.float64)
WEIGHTS = torch.randn(9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TOLERANCE = 1e-5


def field(weights):
    """A random tanh field with a kink in its forcing, so that steps are rejected."""
    return lambda t, y: 4 * torch.tanh(y @ weights.reshape(3, 3)) + 20 * torch.relu(t - 0.5) - y


def turning(weights):
    """A field of complex states, which are given complex times."""
    return lambda t, y: 1j * field(weights)(t.real, y.real) - y + weights[0] * y.conj()


class Own(DormandPrince45):
    """A user's step of the same numbers, of which no tableau is known."""

    def step(self, f, x, t, dt, k1=None, args=None):
        return super().step(f, x, t, dt, k1=k1, args=args)


def single():
    """A solver whose coefficients have been rounded to float32, as those of every `NeuralODE` are."""
    return DormandPrince45(torch.float32)


def double():
    """A solver that rounds no step size to float32."""
    solver = DormandPrince45(torch.float64)
    for name in ("safety", "min_factor", "max_factor"):
        setattr(solver, name, getattr(solver, name).double())
    return solver


@dataclass
class Way:
    """A way to call `odeint`: what differs from the plain one.

    norm: of the scaled error; shown: whether the method shows its tableau, which two terms need.
    """

    solver: Callable[[], Any] = lambda: DormandPrince45(torch.float64)
    times: torch.Tensor = TIMES
    y0: torch.Tensor = Y0
    field: Callable = field
    options: dict = ()
    norm: Callable = rms
    shown: bool = True
    tolerance: float = TOLERANCE


WAYS = {
    "backwards": Way(times=TIMES.flip(0)),
    "coefficients in float32": Way(single),
    "steps in float64": Way(double),
    "times in float32": Way(times=TIMES.float()),
    "interpolated": Way(options={"interpolator": "4th"}),
    "every step returned": Way(options={"return_all_eval": True}),
    "seminorm": Way(options={"seminorm": (True, 1)}, norm=lambda x: rms(x[:1])),
    "complex": Way(y0=Y0 + 0j, field=turning),
    "own step": Way(lambda: Own(torch.float64), shown=False, tolerance=1e-3),  # of two close states, not of two stages,
}


def observed(way, term):
    """The observation, the gradient of the penalty, and the accepted steps."""
    weights = WEIGHTS.clone().requires_grad_()
    with tap.observe(term, trace=True) as seen:
        solver, options = way.solver(), dict(way.options)
        odeint(way.field(weights), way.y0, way.times, solver, atol=way.tolerance, rtol=way.tolerance, **options)
    trace = seen.trace.numpy()
    assert trace["accepted"][0]  # `replay` relies on it
    steps = np.stack([trace["t"], trace["h"]], axis=1)[trace["accepted"]]
    (gradient,) = torch.autograd.grad(seen.penalty, weights)
    return seen, gradient.numpy(), steps


def replay(way, weights, steps, rounds=True):
    """The recorded steps with other weights, by torchdyn's own step: the states at which it evaluates the field."""
    solver, f, visited = way.solver(), way.field(torch.as_tensor(weights)), []
    sign = 1 if steps[0, 1] > 0 else -1
    y, _ = solver.sync_device_dtype(way.y0, way.times)

    def slope(t, y):  # odeint.py: a solve backwards in time is one forwards in the negated time
        visited.append(y)
        return sign * f(sign * t, y)

    k1, replayed = slope(torch.tensor(sign * steps[0, 0], dtype=way.times.dtype), y), []
    for t, h in sign * steps:
        # odeint.py: the first step size has no dimension, and rounds nothing.
        size = step_size(h) if rounds and replayed else torch.tensor(h)
        t = torch.tensor([t], dtype=way.times.dtype)
        k1, y1, error, slopes = solver.step(slope, y, t, size, k1=k1)
        a, b = (y1, y1 - error) if not way.shown else (visited[-1], visited[-2])
        fa, fb = (slope(t + h, x) for x in (a, b))
        c = [0.0, *solver.tableau[0].real.tolist()]
        arrays = (x.numpy() for x in (y, y1, error, a, b, fa, fb))
        replayed.append(TakenStep(h, *arrays, k=[k.numpy() for k in slopes], c=c))
        y = y1
    return replayed


def step_size(h):
    """The step size as the loop had it: utils.py::adapt_step gives it in float32, and so does the rounding after it."""
    rounded = np.float32(h)
    return torch.tensor([rounded if abs(rounded - h) < 1e-14 else h])


@cache
def of_method(method, name):
    way = Way(lambda: ADAPTIVE[method](torch.float64))
    return way, *observed(way, TERMS[name])


def assert_is_that_of_the_frozen_grid(name, way, seen, gradient, steps):
    assert seen.stats.rejected > 0

    def value(weights):
        return total(name, replay(way, weights, steps), way.tolerance, way.tolerance, way.norm)

    assert seen.penalty.item() == pytest.approx(value(WEIGHTS.numpy()), rel=1e-9)
    assert_gradient_matches(value, WEIGHTS.numpy(), gradient)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        pytest.param(method, name, marks=proves("torchdyn", method, [name], "value", "gradient"))
        for method in ADAPTIVE
        for name in TERMS
    ],
)
def test_value_and_gradient_are_those_of_the_frozen_grid(method, name):
    assert_is_that_of_the_frozen_grid(name, *of_method(method, name))


@pytest.mark.parametrize("name", ["local_error", "stiffness", "kinetic_energy"])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_call_it_has_the_value_and_the_gradient_of_the_frozen_grid(way, name):
    if name == "kinetic_energy" and not WAYS[way].shown:
        with pytest.raises(errors.NoEstimateError):
            observed(WAYS[way], TERMS[name])
        return
    assert_is_that_of_the_frozen_grid(name, WAYS[way], *observed(WAYS[way], TERMS[name]))


def test_premise_that_torchdyn_rounds_step_sizes_to_float32():
    way, seen, _, steps = of_method("dopri5", "stiffness")
    rounded = [step_size(h).dtype == torch.float32 for _, h in steps]
    assert 0 < sum(rounded) < len(rounded)
    other = total("stiffness", replay(way, WEIGHTS.numpy(), steps, rounds=False), TOLERANCE, TOLERANCE)
    assert other != pytest.approx(seen.penalty.item(), rel=1e-7)


@pytest.mark.parametrize("method", ADAPTIVE)
def test_stiffness_costs_no_evaluation(method):
    assert of_method(method, "stiffness")[1].stats.measuring == 0


@pytest.mark.parametrize(
    ("method", "name"),
    [
        pytest.param(
            method, name, marks=refuses("torchdyn", method, [name], "fixed steps: no error estimate of its own")
        )
        for method in FIXED
        for name in TERMS
    ],
)
def test_fixed_steps_are_refused(method, name):
    assert SOLVER_DICT[method]().stepping_class == "fixed"
    with pytest.raises(errors.FixedStepError), tap.observe(TERMS[name]):
        odeint(field(WEIGHTS), Y0, TIMES, method)
