"""The same problem gives the same penalty and gradient in every framework."""

import threading
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
pytest.importorskip("torchdiffeq")
pytest.importorskip("torchsde")
pytest.importorskip("diffrax")

import diffrax
import jax.numpy as jnp
import torchdiffeq
import torchsde
from torchdiffeq._impl import rk_common
from torchdiffeq._impl.odeint import SOLVERS

import solvertap as tap
from tests.cells import proves
from tests.oracle import TERMS, unit, weighted
from tests.quick_jit import quick_jit

# Free-running solves of one problem choose their steps by themselves, and rounding moves those a little.
FREE_VALUE, FREE_GRADIENT = 1e-9, 1e-7
# On prescribed steps only the arithmetic of one step differs.
GRID_VALUE, GRID_GRADIENT = 1e-11, 1e-9
# A Stratonovich step is the same handful of operations in both.
SDE_VALUE, SDE_GRADIENT = 1e-12, 1e-11

METHODS = {"dopri5": diffrax.Dopri5, "dopri8": diffrax.Dopri8, "bosh3": diffrax.Bosh3}
Y0 = np.random.default_rng(1).normal(size=(4, 3))


def both(torchdiffeq_method, diffrax_solver):
    """The marks of a test that compares the two."""
    return [
        proves("torchdiffeq", torchdiffeq_method, TERMS, "parity"),
        proves("diffrax", diffrax_solver, TERMS, "parity"),
    ]


def weights_of(seed):
    return 2 * np.random.default_rng(seed).normal(size=(3, 3))


def field(xp, t, y, weights):
    return 6 * xp.tanh(y @ weights) + 20 * xp.sin(8 * t) - y


def mu20(xp, t, y, weights):
    """Van der Pol, mu = 20, its size scaled by the first weight."""
    u, v = y[..., 0], y[..., 1]
    return xp.stack([v, weights[0, 0] * 20 * (1 - u * u) * v - u], -1)


def in_torch(problem, weights, y0, t1, method, tolerance, align=True, **options):
    weights = torch.tensor(weights, requires_grad=True)
    with tap.observe(weighted([1.0] * len(TERMS)), align=align, trace=True) as seen:
        torchdiffeq.odeint(
            lambda t, y: problem(torch, t, y, weights),
            torch.tensor(y0),
            torch.tensor([0.0, t1], dtype=torch.float64),
            rtol=tolerance,
            atol=tolerance,
            method=method,
            **options,
        )
    gradients = {
        name: torch.autograd.grad(value, weights, retain_graph=True)[0].numpy() for name, value in seen.values.items()
    }
    return {name: value.item() for name, value in seen.values.items()}, gradients, seen.stats, seen.trace.numpy()


def in_jax(problem, weights, y0, t1, solver, tolerance, align=True):
    @quick_jit
    @partial(jax.value_and_grad, has_aux=True)
    def values(weights, chosen):
        with tap.observe(weighted(chosen), align=align, trace=True) as seen:
            diffrax.diffeqsolve(
                diffrax.ODETerm(lambda t, y, w: problem(jnp, t, y, w)),
                solver,
                0.0,
                t1,
                None,
                jnp.asarray(y0),
                weights,
                stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
                max_steps=1024,
            )
        return seen.penalty, (seen.stats, seen.trace)

    found, gradients = {}, {}
    for name in TERMS:
        (found[name], (stats, trace)), gradients[name] = values(weights, unit(name))
    return found, gradients, stats, trace.numpy()


PROBLEMS = {
    "random field 0": (field, weights_of(0), Y0, 1.0),
    "van der pol": (mu20, np.ones((1, 1)), np.array([[2.0, 0.0]]), 2.0),
}
# Of an order so high that at tighter tolerances its error is partly rounding: at 1e-6 the two agree to 2e-8.
TOLERANCE = {"dopri5": 1e-6, "dopri8": 1e-3, "bosh3": 1e-5}


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        pytest.param(m, p, marks=both(m, METHODS[m].__name__))
        for m, p in [*((m, "random field 0") for m in METHODS), ("dopri5", "van der pol"), ("dopri8", "van der pol")]
    ],
)
def test_aligned_solves_take_the_same_steps_and_give_the_same_penalty(method, problem):
    compare(PROBLEMS[problem], method, METHODS[method](), TOLERANCE[method])


def compare(problem, method, solver, tolerance):
    torch_values, torch_gradients, torch_stats, torch_trace = in_torch(*problem, method, tolerance)
    jax_values, jax_gradients, jax_stats, jax_trace = in_jax(*problem, solver, tolerance)
    assert torch_stats.rejected > 0
    assert (int(jax_stats.accepted), int(jax_stats.rejected)) == (torch_stats.accepted, torch_stats.rejected)
    assert np.array_equal(jax_trace["accepted"], torch_trace["accepted"])
    assert np.allclose(jax_trace["h"], torch_trace["h"], rtol=1e-6)
    for name in TERMS:
        assert jax_values[name] == pytest.approx(torch_values[name], rel=FREE_VALUE), name
        scale = np.linalg.norm(torch_gradients[name])
        assert np.linalg.norm(jax_gradients[name] - torch_gradients[name]) <= FREE_GRADIENT * scale, name


def test_without_aligning_the_last_step_and_the_first_differ():
    """Why `align` exists: otherwise torchdiffeq steps past the last time, and diffrax starts at 0.01."""
    arguments = PROBLEMS["random field 0"]
    *_, torch_trace = in_torch(*arguments, "dopri5", 1e-6, align=False)
    *_, jax_trace = in_jax(*arguments, diffrax.Dopri5(), 1e-6, align=False)
    assert torch_trace["t"][-1] + torch_trace["h"][-1] > 1
    assert jax_trace["h"][0] == pytest.approx(0.01)


def assert_agree(penalty, names, weights, seen, torch_weights, value_tolerance, gradient_tolerance):
    """`penalty(weights, chosen)` in JAX gives the values seen in torch and their gradients."""
    penalty = quick_jit(jax.value_and_grad(penalty))
    for name in names:
        value, gradient = penalty(weights, unit(name))
        (expected,) = torch.autograd.grad(seen.values[name], torch_weights, retain_graph=True)
        assert float(value) == pytest.approx(seen.values[name].item(), rel=value_tolerance), name
        difference = np.linalg.norm(gradient - expected.numpy())
        assert difference <= gradient_tolerance * np.linalg.norm(expected.numpy()), name


def with_tolerance(terms, tolerance):
    """The terms with a tolerance of their own, since a prescribed grid has none."""
    errors = ("local_error", "squared_local_error")
    return {n: replace(t, rtol=tolerance, atol=tolerance) if n in errors else t for n, t in terms.items()}


def on_grid(terms, solver, grid, y0, build, chosen):
    """The weighted penalty of diffrax over prescribed steps."""
    pairs = zip(chosen, terms.values(), strict=True)
    with tap.observe(sum(weight * term for weight, term in pairs if term is not None)) as seen:
        diffrax.diffeqsolve(build, solver, 0.0, 1.0, None, jnp.asarray(y0), stepsize_controller=diffrax.StepTo(grid))
    return seen.penalty


def on_grid_of_torchdiffeq(solve, method, torch_weights, grid, **options):
    """Solves over prescribed steps."""
    # So wide that nothing is rejected, and never further than the next of the prescribed times.
    solve(
        lambda t, y: field(torch, t, y, torch_weights),
        torch.tensor(Y0),
        torch.tensor([0.0, 1.0], dtype=torch.float64),
        rtol=1e3,
        atol=1e3,
        method=method,
        options={"first_step": 1.0, "step_t": torch.tensor(grid[1:])},
        **options,
    )


def steps_of_torchdiffeq(method, weights, grid, tolerance):
    torch_weights = torch.tensor(weights, requires_grad=True)
    terms = with_tolerance(TERMS, tolerance)
    with tap.observe(sum(terms.values(), start=0), trace=True) as seen:
        on_grid_of_torchdiffeq(torchdiffeq.odeint, method, torch_weights, grid)
    assert np.allclose(seen.trace.numpy()["t"], grid[:-1])
    return seen, torch_weights, terms


@pytest.mark.parametrize("method", [pytest.param(m, marks=both(m, s.__name__)) for m, s in METHODS.items()])
def test_on_a_prescribed_grid_the_penalties_agree_to_rounding(method):
    # The higher the order, the longer the steps, so that no error is a rounding.
    steps, tolerance = {"bosh3": 24, "dopri5": 8, "dopri8": 3}[method], 1e-6
    weights, grid = 0.3 * weights_of(2), np.linspace(0, 1, steps + 1)
    seen, torch_weights, terms = steps_of_torchdiffeq(method, weights, grid, tolerance)

    def penalty(weights, chosen):
        build = diffrax.ODETerm(lambda t, y, _: field(jnp, t, y, weights))
        return on_grid(terms, METHODS[method](), grid, Y0, build, chosen)

    assert_agree(penalty, TERMS, weights, seen, torch_weights, GRID_VALUE, GRID_GRADIENT)


class _Tsit5OfDiffrax(rk_common.RKAdaptiveStepsizeODESolver):
    """The method that torchdiffeq 0.2.5 does not have yet, with diffrax's coefficients."""

    order = 5
    tableau = rk_common._ButcherTableau(
        alpha=torch.tensor(diffrax.Tsit5.tableau.c),
        beta=[torch.tensor(row) for row in diffrax.Tsit5.tableau.a_lower],
        c_sol=torch.tensor(diffrax.Tsit5.tableau.b_sol),
        c_error=torch.tensor(diffrax.Tsit5.tableau.b_error),
    )
    mid = torch.zeros(7, dtype=torch.float64)  # for the dense output, which ends where a step ends


@pytest.mark.parametrize(
    "problem", [pytest.param(p, marks=proves("diffrax", "Tsit5", TERMS, "parity")) for p in ["van der pol"]]
)
def test_method_added_to_torchdiffeq_is_tapped_and_gives_the_same_penalty(problem, monkeypatch):
    monkeypatch.setitem(SOLVERS, "tsit5_of_diffrax", _Tsit5OfDiffrax)
    compare(PROBLEMS[problem], "tsit5_of_diffrax", diffrax.Tsit5(), 1e-5)


def test_adaptive_heun_differs_from_heun_by_the_slope_it_starts_from():
    """Same tableau; but torchdiffeq starts a step from the last stage of the one before, at another state."""
    weights = 0.3 * weights_of(2)

    def differences(steps):
        grid = np.linspace(0, 1, steps + 1)
        seen, _, terms = steps_of_torchdiffeq("adaptive_heun", weights, grid, 1e-6)
        build = diffrax.ODETerm(lambda t, y, _: field(jnp, t, y, weights))
        for name, value in seen.values.items():
            found = float(on_grid(terms, diffrax.Heun(), grid, Y0, build, unit(name)))
            yield name, abs(found / value.item() - 1)

    assert all(difference < GRID_VALUE for _, difference in differences(1))
    assert dict(differences(16))["local_error"] > 0.01


_one_at_a_time = threading.Lock()


class _PathOf(diffrax.AbstractBrownianPath):
    """torchsde's Brownian path, asked for its increments from inside JAX."""

    path: object
    columns: int
    levy_area: type = diffrax.SpaceTimeLevyArea
    t0: float = 0.0
    t1: float = 1.0

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        def ask(a, b):
            with _one_at_a_time:  # a BrownianInterval caches, and XLA calls back from several threads
                w, u = self.path(torch.tensor(np.asarray(a)), torch.tensor(np.asarray(b)), return_U=True)
            return np.stack([w[0].numpy(), u[0].numpy()])

        shape = jax.ShapeDtypeStruct((2, self.columns), np.float64)
        w, u = jax.pure_callback(ask, shape, t0, t1, vmap_method="sequential")
        # torchsde gives the integral of the path over the step, diffrax wants what is left of its mean.
        return diffrax.SpaceTimeLevyArea(dt=t1 - t0, W=w, H=u / (t1 - t0) - w / 2) if use_levy else w


SDE_METHODS = {
    ("euler", "ito"): diffrax.Euler,
    ("heun", "stratonovich"): diffrax.Heun,
    ("midpoint", "stratonovich"): diffrax.Midpoint,
    ("euler_heun", "stratonovich"): diffrax.EulerHeun,
    ("reversible_heun", "stratonovich"): diffrax.ReversibleHeun,
    ("milstein", "stratonovich"): diffrax.StratonovichMilstein,
    ("milstein", "ito"): diffrax.ItoMilstein,
    ("srk", "ito"): diffrax.SRA1,
}
# diffrax's SRA1 takes additive noise; torchsde's Milstein takes none that is general.
SDE_ROWS = [
    (method, calculus, noise)
    for method, calculus in SDE_METHODS
    for noise in ("additive", "diagonal", "scalar", "general")
    if (method != "srk" or noise == "additive") and (method != "milstein" or noise != "general")
    # How noise is multiplied is no matter of the method, so all kinds are compared in three of them.
    if method in ("heun", "milstein", "euler") or noise in ("additive", "diagonal")
]
# The others are read from the slopes of the drift, which the stages of diffrax mix with the noise.
SDE_TERMS = ("local_error", "squared_local_error", "stiffness")


def _sde_marks(*row):
    solver = SDE_METHODS[row[:2]].__name__
    marks = [proves("torchsde", ", ".join(row), SDE_TERMS, "parity")]
    if solver != "Euler":  # which diffrax lets nobody adapt on an SDE; here the steps are prescribed
        marks.append(proves("diffrax", f"HalfSolver({solver}), SDE", SDE_TERMS, "parity"))
    return marks


def _drift(xp, t, y, w):
    return 3 * xp.tanh(w @ y) + xp.sin(20 * t)


def _diffusion(xp, y, w, noise):
    if noise == "additive":
        return 0.2 * w
    if noise == "general":
        return 0.2 * w * xp.sin(y)
    # Each component by itself, as torchsde's Milstein takes diagonal noise to be.
    spread = 0.3 * xp.sin(w[0] * y)
    return spread[:, None] if noise == "scalar" else xp.diag(spread)


def _torch_sde(weights, calculus, noise):
    class SDE(torch.nn.Module):
        noise_type, sde_type = noise, calculus

        def f(self, t, y):
            return _drift(torch, t, y[0], weights)[None]

        def g(self, t, y):
            matrix = _diffusion(torch, y[0], weights, noise)
            return (matrix.diagonal() if noise == "diagonal" else matrix)[None]

    return SDE()


def solve_torch_sde(method, calculus, noise, terms, y0, tolerance, align, key=None):
    """What was seen, the weights, and the path."""
    weights = torch.tensor(weights_of(3)[:2, :2], requires_grad=True)
    # A halfway tree: the path does not depend on the order in which it is asked.
    options = {"entropy": 5, "tol": 1e-5, "halfway_tree": True, "levy_area_approximation": "space-time"}
    columns = 1 if noise == "scalar" else 2
    path = torchsde.BrownianInterval(0.0, 1.0, (1, columns), torch.float64, **options)
    wanted = sum((term for term in terms.values() if term is not None), start=0)
    with tap.observe(wanted, trace=True, align=align, key=key) as seen, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Numerical solution is not guaranteed")  # Euler, as its docs say
        torchsde.sdeint(
            _torch_sde(weights, calculus, noise),
            torch.tensor(y0)[None],
            torch.tensor([0.0, 1.0], dtype=torch.float64),
            bm=path,
            method=method,
            dt=0.3,
            adaptive=True,
            rtol=tolerance,
            atol=tolerance,
        )
    assert seen.stats.rejected > 0
    return seen, weights, _PathOf(path, columns)


def diffrax_sde(weights, noise, path):
    return diffrax.MultiTerm(
        diffrax.ODETerm(lambda t, y, _: _drift(jnp, t, y, weights)),
        diffrax.ControlTerm(lambda t, y, _: _diffusion(jnp, y, weights, noise), path),
    )


@pytest.mark.parametrize(
    ("method", "calculus", "noise"), [pytest.param(*row, marks=_sde_marks(*row)) for row in SDE_ROWS]
)
def test_on_one_brownian_path_torchsde_and_diffrax_agree(method, calculus, noise):
    y0, tolerance = np.array([1.0, -0.5]), 2e-2
    terms = {name: term if name in SDE_TERMS else None for name, term in with_tolerance(TERMS, tolerance).items()}
    seen, torch_weights, path = solve_torch_sde(method, calculus, noise, terms, y0, tolerance, align=False)
    trace = seen.trace.numpy()
    grid = np.append(trace["t"][trace["accepted"]], 1.0)

    def penalty(weights, chosen):
        solver = diffrax.HalfSolver(SDE_METHODS[method, calculus]())
        return on_grid(terms, solver, grid, y0, diffrax_sde(weights, noise, path), chosen)

    weights = torch_weights.detach().numpy()
    assert_agree(penalty, SDE_TERMS, weights, seen, torch_weights, SDE_VALUE, SDE_GRADIENT)


@pytest.mark.parametrize(("method", "calculus"), [row for row in SDE_METHODS if row[0] != "euler"])
def test_aligned_sde_solves_take_the_same_steps(method, calculus):
    noise = "additive" if method == "srk" else "diagonal"
    y0, tolerance = np.array([1.0, -0.5]), 1e-2
    terms = {name: TERMS[name] for name in SDE_TERMS}
    seen, weights, path = solve_torch_sde(method, calculus, noise, terms, y0, tolerance, align=True)
    with tap.observe(sum(terms.values(), start=0), trace=True, align=True) as free:
        diffrax.diffeqsolve(
            diffrax_sde(weights.detach().numpy(), noise, path),
            diffrax.HalfSolver(SDE_METHODS[method, calculus]()),
            0.0,
            1.0,
            0.3,
            jnp.asarray(y0),
            stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
            max_steps=256,
        )
    ours, theirs = seen.trace.numpy(), free.trace.numpy()
    assert np.array_equal(ours["accepted"], theirs["accepted"])
    assert np.allclose(ours["h"], theirs["h"], rtol=1e-9)
    for name, value in free.values.items():
        assert float(value) == pytest.approx(seen.values[name].item(), rel=FREE_VALUE), name
