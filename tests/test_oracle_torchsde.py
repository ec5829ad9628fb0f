"""Every adaptive method of torchsde on every kind of noise it takes, every term: value and gradient."""

import warnings
from functools import cache, lru_cache
from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchsde")

from torchsde import BrownianInterval, sdeint
from torchsde._core.base_sde import ForwardSDE
from torchsde._core.methods import select
from torchsde.settings import LEVY_AREA_APPROXIMATIONS, METHODS, SDE_TYPES

import solvertap as tap
from solvertap import errors
from tests.cells import proves, refuses
from tests.oracle import TERMS, TakenStep, assert_gradient_matches, total


def _names(settings):
    return [value for name, value in vars(settings).items() if not name.startswith("_")]


def _solvers():
    """(method, calculus, noise, Levy area) for whatever torchsde can step forwards."""
    for method in _names(METHODS):
        for calculus in _names(SDE_TYPES):
            solver = select(method, calculus)
            if solver.sde_type != calculus or method == METHODS.adjoint_reversible_heun:  # for backward solves only
                continue
            for noise in sorted(solver.noise_types):
                areas = solver.levy_area_approximations
                yield method, calculus, noise, next(a for a in _names(LEVY_AREA_APPROXIMATIONS) if a in areas)


SOLVERS = list(_solvers())
TIMES = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
Y0 = torch.tensor([[1.0, -0.5], [0.3, 0.8], [2.0, 0.1]], dtype=torch.float64)
WEIGHTS = torch.randn(4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TOLERANCE = 1e-2


def label(method, calculus, noise):
    return f"{method}, {calculus}, {noise}"


class SDE(torch.nn.Module):
    def __init__(self, calculus, noise, weights=WEIGHTS):
        super().__init__()
        self.sde_type, self.noise_type = calculus, noise
        self.weights = torch.nn.Parameter(torch.as_tensor(weights).clone())

    def f(self, t, y):
        return 3 * torch.tanh(y @ self.weights.reshape(2, 2)) + torch.sin(20 * t)

    def g(self, t, y):
        weights = self.weights.reshape(2, 2)
        if self.noise_type == "diagonal":
            return 0.3 * torch.sin(y @ weights.T)
        if self.noise_type == "scalar":
            return 0.3 * torch.sin(y @ weights.T)[..., None]
        spread = 0.3 * weights.expand(len(y), 2, 2)
        return spread if self.noise_type == "additive" else spread * y.sin()[:, :1, None]


def path(noise, area):
    # A halfway tree: the path does not depend on the order in which it is asked, so that a replay sees the same.
    size, options = (3, 1 if noise == "scalar" else 2), {"dtype": torch.float64, "entropy": 7, "tol": 1e-3}
    return BrownianInterval(0.0, 1.0, size=size, levy_area_approximation=area, halfway_tree=True, **options)


@cache
def observe(method, calculus, noise, area, name):
    sde = SDE(calculus, noise)
    with tap.observe(TERMS[name], trace=True) as seen, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Numerical solution is not guaranteed")  # Euler, as its docs say
        options = {"dt": 0.3, "adaptive": True, "rtol": TOLERANCE, "atol": TOLERANCE}
        sdeint(sde, Y0, TIMES, bm=path(noise, area), method=method, **options)
    (gradient,) = torch.autograd.grad(seen.penalty, sde.weights)
    trace = seen.trace.numpy()
    return seen, gradient.numpy(), np.stack([trace["t"], trace["h"]], axis=1)[trace["accepted"]]


@lru_cache(maxsize=64)
def replay(method, calculus, noise, area, packed, weights):
    """The recorded steps with other weights: whole, in two halves, and the drift at the two ends."""
    sde = SDE(calculus, noise, np.frombuffer(weights).copy())
    solver = select(method, calculus)(
        sde=ForwardSDE(sde), bm=path(noise, area), dt=0.3, adaptive=True, rtol=0, atol=0, dt_min=0, options={}
    )
    replayed, y = [], Y0
    extra = solver.init_extra_solver_state(TIMES[0], y)
    for t0, h in torch.from_numpy(np.frombuffer(packed).copy()).reshape(-1, 2):
        t1, middle = t0 + h, t0 + 0.5 * h
        with torch.enable_grad():  # Milstein differentiates its diffusion
            whole, _ = solver.step(t0, t1, y, extra)
            half, half_extra = solver.step(t0, middle, y, extra)
            halves, next_extra = solver.step(middle, t1, half, half_extra)
        # Reversible Heun steps from a drift that it carries, evaluated beside y.
        drifts = [extra[0], half_extra[0]] if extra else [sde.f(t0, y), sde.f(middle, half)]
        states = [y, halves, halves - whole, halves, whole, sde.f(t1, halves), sde.f(t1, whole)]
        numbers = [x.detach().numpy() for x in states]
        replayed.append(TakenStep(h.item(), *numbers, k=[x.detach().numpy() for x in drifts], c=(0, 1 / 2)))
        y, extra = halves.detach(), tuple(x.detach() for x in next_extra)
    return replayed


@pytest.mark.parametrize(
    ("method", "calculus", "noise", "area", "name"),
    [
        pytest.param(*solver, name, marks=proves("torchsde", label(*solver[:3]), [name], "value", "gradient"))
        for solver in SOLVERS
        for name in TERMS
    ],
)
def test_value_and_gradient_are_those_of_the_frozen_grid(method, calculus, noise, area, name):
    seen, gradient, steps = observe(method, calculus, noise, area, name)
    assert seen.stats.rejected > 0

    def value(weights):
        return total(name, replay(method, calculus, noise, area, steps.tobytes(), weights.tobytes()), *[TOLERANCE] * 2)

    assert seen.penalty.item() == pytest.approx(value(WEIGHTS.numpy()), rel=1e-9)
    assert_gradient_matches(value, WEIGHTS.numpy(), gradient)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=refuses("torchsde", "adaptive=False, any method", [n], "fixed steps: no error estimate"))
        for n in TERMS
    ],
)
def test_fixed_steps_are_refused(name):
    with pytest.raises(errors.FixedStepError), tap.observe(TERMS[name]):
        sdeint(SDE("stratonovich", "diagonal"), Y0, TIMES, bm=path("diagonal", "none"), method="heun", dt=0.3)


@pytest.mark.parametrize(("method", "calculus", "noise", "area"), SOLVERS)
def test_stability_size_is_that_of_the_steps_taken_on_a_drift_alone(method, calculus, noise, area):
    """The factor of two half steps on y' = -x y reaches 1 in size at x, and not before."""

    class Decay(SDE):
        def f(self, t, y):
            return -y

        def g(self, t, y):
            return 0 * super().g(t, y)

    found = []

    class Look(tap.Stiffness):
        def measure(self, step):
            found.append(step.stability_size)
            return super().measure(step)

    bm = path(noise, area)
    with tap.observe(Look()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sdeint(Decay(calculus, noise), Y0, TIMES, bm=bm, method=method, dt=0.1, adaptive=True)
    (size,) = set(found)
    solver = select(method, calculus)(
        sde=ForwardSDE(Decay(calculus, noise)), bm=bm, dt=1, adaptive=True, rtol=0, atol=0, dt_min=0, options={}
    )

    class Noiseless:
        levy_area_approximation = area

        def __call__(self, t0, t1, **options):
            zero = 0 * Y0[:, :1] if noise == "scalar" else 0 * Y0
            area_zero = zero[..., None] * zero[..., None, :]
            return (zero, *(zero if name == "return_U" else area_zero for name in options)) if options else zero

    solver.bm = Noiseless()

    def growth(x):
        y, extra = Y0, solver.init_extra_solver_state(torch.tensor(0.0, dtype=torch.float64), Y0)
        times = torch.tensor([0.0, x / 2, x], dtype=torch.float64)
        for t0, t1 in pairwise(times):
            y, extra = solver.step(t0, t1, y, extra)
        return abs((y / Y0)[0, 0].item())

    if method == "reversible_heun":
        assert size is None
        return
    assert all(growth(x) <= 1 + 1e-6 for x in np.linspace(0.01, size, 50))
    assert growth(size + 0.01) > 1
