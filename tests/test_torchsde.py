import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torchsde = pytest.importorskip("torchsde")

from torchsde import BrownianInterval, sdeint, sdeint_adjoint  # by name, before any tap

import solvertap as tap
from solvertap import errors
from solvertap_lab.overhead.memory import most_held
from tests.faults import fault

# Every method of torchsde 0.2.6 that adapts, with a calculus and the Levy area it needs.
METHODS = [
    ("heun", "stratonovich", "none"),
    ("midpoint", "stratonovich", "none"),
    ("euler_heun", "stratonovich", "none"),
    ("reversible_heun", "stratonovich", "none"),
    ("milstein", "stratonovich", "none"),
    ("log_ode", "stratonovich", "foster"),
    ("euler", "ito", "none"),
    ("milstein", "ito", "none"),
    ("srk", "ito", "space-time"),
]
BY_METHOD = pytest.mark.parametrize(("method", "calculus", "area"), METHODS, ids=lambda value: value)
TERM = 100 * tap.LocalError() + 0.1 * tap.Stiffness(reduce="max")
TIMES = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
TOLERANCE = 3e-3


class SDE(torch.nn.Module):
    noise_type = "diagonal"

    def __init__(self, calculus, weights=None):
        super().__init__()
        self.sde_type = calculus
        generator = torch.Generator().manual_seed(0)
        weights = torch.randn(2, 2, generator=generator, dtype=torch.float64) if weights is None else weights
        self.weights = torch.nn.Parameter(torch.as_tensor(weights).reshape(2, 2))

    def f(self, t, y):
        return 3 * torch.tanh(y @ self.weights) + torch.sin(20 * t)

    def g(self, t, y):
        return 0.3 * torch.sin(y @ self.weights.T)


def _y0():
    return torch.tensor([[1.0, -0.5], [0.3, 0.8], [2.0, 0.1]], dtype=torch.float64)


def _path(area, columns=2):
    # A halfway tree: the path does not depend on the order in which it is asked, so that a replay sees the same.
    options = {"dtype": torch.float64, "entropy": 7, "tol": 1e-5, "halfway_tree": True}
    return BrownianInterval(0.0, 1.0, size=(3, columns), levy_area_approximation=area, **options)


def _solve(sde, method, area, function=sdeint, columns=2, **options):
    options = {"dt": 0.3, "adaptive": True, "rtol": TOLERANCE, "atol": TOLERANCE} | options
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Numerical solution is not guaranteed")  # Euler, as its docs say
        return function(sde, _y0(), TIMES, bm=_path(area, columns), method=method, **options)


@BY_METHOD
@fault(
    "an SDE is observed",
    "solution and gradient are bitwise the bare ones",
)
def test_observed_solution_and_its_gradient_are_bitwise_the_bare_ones(method, calculus, area):
    def solved(term, **options):
        sde = SDE(calculus)
        with tap.observe(term, **options):
            states = _solve(sde, method, area)
        return states, torch.autograd.grad(states.sum(), sde.weights)[0]

    tap.detach()
    sde = SDE(calculus)
    states = _solve(sde, method, area)
    (gradient,) = torch.autograd.grad(states.sum(), sde.weights)
    for term, options in ((None, {}), (TERM, {}), (TERM, {"trace": True})):
        observed_states, observed_gradient = solved(term, **options)
        assert torch.equal(observed_states, states)
        assert torch.equal(observed_gradient, gradient)


@pytest.mark.parametrize("noise_type", ["additive", "scalar", "general"])
def test_every_kind_of_noise_is_seen(noise_type):
    class Noisy(SDE):
        def g(self, t, y):
            if noise_type == "scalar":
                return 0.3 * torch.tanh(y)[..., None]
            return 0.3 * self.weights.expand(3, 2, 2) * (1 if noise_type == "additive" else y.sin()[:, :1, None])

    sde = Noisy("stratonovich")
    sde.noise_type = noise_type
    columns = 1 if noise_type == "scalar" else 2
    options = {"dt": 0.3, "adaptive": True, "rtol": TOLERANCE, "atol": TOLERANCE, "method": "heun"}
    bare = sdeint(sde, _y0(), TIMES, bm=_path("none", columns), **options)
    with tap.observe(TERM) as seen:
        observed = sdeint(sde, _y0(), TIMES, bm=_path("none", columns), **options)
    assert torch.equal(observed, bare)
    seen.penalty.backward()
    assert sde.weights.grad.abs().sum() > 0


def test_evaluations_of_drift_and_diffusion_are_counted_exactly():
    calls = {"f": 0, "g": 0}

    class Counted(SDE):
        def f(self, t, y):
            calls["f"] += 1
            return super().f(t, y)

        def g(self, t, y):
            calls["g"] += 1
            return super().g(t, y)

    sde = Counted("stratonovich")
    with tap.observe(tap.Stiffness()) as seen:
        _solve(sde, "heun", "none")
    # sdeint.py::check_contract evaluates each once, to learn the shapes, before the solve begins.
    stats = seen.stats
    assert (stats.evaluations + stats.measuring + 1, stats.diffusion_evaluations + 1) == (calls["f"], calls["g"])
    assert (stats.measuring, stats.diffusion_measuring) == (2 * stats.accepted, 0)


@pytest.mark.parametrize("names", [("f_and_g",), ("f_and_g_prod", "g")])
def test_drift_is_found_whatever_methods_the_sde_has(names):
    inner = SDE("stratonovich")

    class Other(torch.nn.Module):
        noise_type, sde_type = "diagonal", "stratonovich"

    methods = {
        "f_and_g": lambda self, t, y: (inner.f(t, y), inner.g(t, y)),
        "f_and_g_prod": lambda self, t, y, v: (inner.f(t, y), inner.g(t, y) * v),
        "g": lambda self, t, y: inner.g(t, y),
    }
    for name in names:
        setattr(Other, name, methods[name])
    with tap.observe(TERM) as plain:
        _solve(inner, "heun", "none")
    with tap.observe(TERM) as other:
        _solve(Other(), "heun", "none")
    assert other.penalty.item() == pytest.approx(plain.penalty.item(), rel=1e-12)
    assert other.stats.accepted == plain.stats.accepted


def test_drift_that_is_a_module_and_logqp_run():
    class WithTime(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 2, dtype=torch.float64)

        def forward(self, t, y):
            return self.layer(y)

    class Prior(torch.nn.Module):
        noise_type, sde_type = "diagonal", "stratonovich"

        def __init__(self):
            super().__init__()
            self.f = WithTime()

        def g(self, t, y):
            return 0.3 + 0.1 * torch.tanh(y)

        def h(self, t, y):
            return -y

    for logqp, columns in ((False, 2), (True, 3)):
        sde = Prior()
        with tap.observe(TERM) as seen:
            _solve(sde, "heun", "none", logqp=logqp, columns=columns)
        seen.penalty.backward()
        assert sde.f.layer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("solve", "refusal"),
    [
        (lambda sde: _solve(sde, "heun", "none", adaptive=False), errors.FixedStepError),
        (lambda sde: _solve(sde, "heun", "none", function=sdeint_adjoint), errors.ContinuousAdjointError),
        (lambda sde: torch.no_grad()(_solve)(sde, "heun", "none"), errors.GradientDisabledError),
    ],
    ids=["fixed", "adjoint", "no_grad"],
)
@fault(
    "a penalty under `sdeint_adjoint`, `adaptive=False`, `torch.no_grad`",
    "an exception of its own class before the solve, with the remedy; statistics work",
)
def test_penalty_without_gradient_is_refused_at_the_door_and_counts_still_work(solve, refusal):
    sde = SDE("stratonovich")
    with pytest.raises(refusal), tap.observe(TERM):
        solve(sde)
    with tap.observe() as seen:
        solve(sde)
    assert seen.stats.accepted > 0
    assert seen.stats.evaluations > 0


def test_backward_solve_of_the_adjoint_is_not_counted():
    sde = SDE("stratonovich")
    with tap.observe() as seen:
        states = _solve(sde, "heun", "none", function=sdeint_adjoint)
        forward = seen.stats
        states.sum().backward()
    assert seen.stats == forward
    assert sde.weights.grad.abs().sum() > 0


@fault(
    "the drift of an SDE raises in the middle of a solve",
    "its exception passes; solver and SDE are as they were",
)
def test_exception_of_the_drift_passes_and_leaves_the_solver_as_it_was():
    class Failing(SDE):
        def f(self, t, y):
            if t > 0.5:
                raise ZeroDivisionError("the user's own")
            return super().f(t, y)

    with tap.observe(TERM) as seen, pytest.raises(ZeroDivisionError):
        _solve(Failing("stratonovich"), "heun", "none")
    assert seen.stats.solves == 0


def test_trace_has_every_attempt():
    with tap.observe(trace=True) as seen:
        _solve(SDE("stratonovich"), "heun", "none")
    trace = seen.trace.numpy()
    assert len(trace["t"]) == seen.stats.accepted + seen.stats.rejected
    assert trace["t"][0] == 0
    last = np.flatnonzero(trace["accepted"])[-1]
    assert trace["t"][last] + trace["h"][last] == pytest.approx(1)


@BY_METHOD
@pytest.mark.parametrize("term", [TERM, None], ids=["penalty", "statistics"])
def test_replayed_solve_is_bitwise_the_kept_one_with_its_gradient(method, calculus, area, term):
    def trained(**options):
        sde = SDE(calculus)
        with tap.observe(term, **options) as seen:
            states = _solve(sde, method, area)
        penalty = seen.penalty if term is not None else states.sum() * 0
        return states, penalty, torch.autograd.grad(states.square().sum() + penalty, sde.weights)[0], seen

    states, penalty, gradient, bare = trained()
    replayed, its_penalty, its_gradient, seen = trained(checkpoint=True)
    assert torch.equal(replayed, states)
    assert torch.equal(its_penalty, penalty)
    assert (its_gradient - gradient).norm() <= 1e-12 * gradient.norm()
    assert seen.stats == bare.stats
    again = seen.phases["recomputation"]
    assert (again.solves, again.accepted, again.rejected) == (1, 0, 0)
    assert again.evaluations > 0


def test_fixed_steps_are_replayed_and_their_activations_let_go():
    class Wide(SDE):
        def f(self, t, y):
            return torch.tanh((y @ self.weights).repeat(1, 100)).sum(-1, keepdim=True).expand_as(y)

    def trained(dt, **options):
        with tap.observe(**options) as seen:
            states = _solve(Wide("stratonovich"), "midpoint", "none", adaptive=False, dt=dt)
        states.sum().backward()
        return seen

    seen, bare = trained(0.05, checkpoint=True), trained(0.05)
    assert seen.phases["recomputation"].evaluations == seen.stats.evaluations == bare.stats.evaluations
    kept, replayed = (
        most_held(lambda options=options: trained(0.01, **options))
        - most_held(lambda options=options: trained(0.05, **options))
        for options in ({}, {"checkpoint": True})
    )
    assert replayed < 0.1 * kept
