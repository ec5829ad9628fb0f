"""The same problem gives the same penalty and gradient in every framework."""

import threading

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

import solvertap as tap

# Free-running solves of one problem choose their steps by themselves, and rounding moves those a little.
FREE_VALUE, FREE_GRADIENT = 1e-9, 1e-7
# On prescribed steps only the arithmetic of one step differs.
GRID_VALUE, GRID_GRADIENT = 1e-11, 1e-9
# A Stratonovich step is the same handful of operations in both.
SDE_VALUE, SDE_GRADIENT = 1e-12, 1e-11

METHODS = {"dopri5": diffrax.Dopri5, "bosh3": diffrax.Bosh3}
Y0 = np.random.default_rng(1).normal(size=(4, 3))
TERMS = {"local_error": tap.LocalError(), "stiffness": tap.Stiffness()}


def weights_of(seed):
    return 2 * np.random.default_rng(seed).normal(size=(3, 3))


def field(xp, t, y, weights):
    return 3 * xp.tanh(y @ weights) + 5 * xp.sin(8 * t) - y


def mu20(xp, t, y, weights):
    """Van der Pol, mu = 20, its size scaled by the first weight."""
    u, v = y[..., 0], y[..., 1]
    return xp.stack([v, weights[0, 0] * 20 * (1 - u * u) * v - u], -1)


def in_torch(problem, weights, y0, t1, method, tolerance, term, align=True):
    weights = torch.tensor(weights, requires_grad=True)
    with tap.observe(term, align=align, trace=True) as seen:
        torchdiffeq.odeint(
            lambda t, y: problem(torch, t, y, weights),
            torch.tensor(y0),
            torch.tensor([0.0, t1], dtype=torch.float64),
            rtol=tolerance,
            atol=tolerance,
            method=method,
        )
    gradient = {
        name: torch.autograd.grad(value, weights, retain_graph=True)[0].numpy() for name, value in seen.values.items()
    }
    return {name: value.item() for name, value in seen.values.items()}, gradient, seen.stats, seen.trace.numpy()


def in_jax(problem, weights, y0, t1, method, tolerance, term, align=True):
    @jax.jit
    def values(weights, chosen):
        with tap.observe(chosen[0] * term[0] + chosen[1] * term[1], align=align, trace=True) as seen:
            diffrax.diffeqsolve(
                diffrax.ODETerm(lambda t, y, w: problem(jnp, t, y, w)),
                METHODS[method](),
                0.0,
                t1,
                None,
                jnp.asarray(y0),
                weights,
                stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
                max_steps=256,
            )
        return seen.penalty, (seen.values, seen.stats, seen.trace)

    gradients = {}
    for name, chosen in (("local_error", (1.0, 0.0)), ("stiffness", (0.0, 1.0))):
        gradients[name], (found, stats, trace) = jax.grad(values, has_aux=True)(weights, chosen)
    return {name: float(value) for name, value in found.items()}, gradients, stats, trace.numpy()


@pytest.mark.parametrize(
    ("problem", "weights", "y0", "t1", "method", "tolerance"),
    [
        (field, weights_of(0), Y0, 1.0, "dopri5", 1e-6),
        (field, weights_of(1), Y0, 1.0, "bosh3", 1e-5),
        (mu20, np.ones((1, 1)), np.array([[2.0, 0.0]]), 2.0, "dopri5", 1e-6),
    ],
    ids=["dopri5", "bosh3", "van der pol"],
)
def test_aligned_solves_take_the_same_steps_and_give_the_same_penalty(problem, weights, y0, t1, method, tolerance):
    terms = tuple(TERMS.values())
    torch_values, torch_gradients, torch_stats, torch_trace = in_torch(
        problem, weights, y0, t1, method, tolerance, terms[0] + terms[1]
    )
    jax_values, jax_gradients, jax_stats, jax_trace = in_jax(problem, weights, y0, t1, method, tolerance, terms)
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
    arguments = (field, weights_of(0), Y0, 1.0, "dopri5", 1e-6)
    *_, torch_trace = in_torch(*arguments, tap.LocalError(), align=False)
    *_, jax_trace = in_jax(*arguments, tuple(TERMS.values()), align=False)
    assert torch_trace["t"][-1] + torch_trace["h"][-1] > 1
    assert jax_trace["h"][0] == pytest.approx(0.01)


def assert_agree(penalty, weights, seen, torch_weights, value_tolerance, gradient_tolerance):
    """`penalty(weights, chosen)` in JAX gives the values seen in torch and their gradients."""
    for name, chosen in (("local_error", (1.0, 0.0)), ("stiffness", (0.0, 1.0))):
        value, gradient = jax.value_and_grad(penalty)(weights, chosen)
        (expected,) = torch.autograd.grad(seen.values[name], torch_weights, retain_graph=True)
        assert float(value) == pytest.approx(seen.values[name].item(), rel=value_tolerance)
        difference = np.linalg.norm(gradient - expected.numpy())
        assert difference <= gradient_tolerance * np.linalg.norm(expected.numpy())


def test_on_a_prescribed_grid_the_penalties_agree_to_rounding():
    weights, grid, tolerance = weights_of(2), np.linspace(0, 1, 8), 1e-6
    term = tap.LocalError(rtol=tolerance, atol=tolerance) + tap.Stiffness()
    torch_weights = torch.tensor(weights, requires_grad=True)
    with tap.observe(term, trace=True) as seen:
        # So wide that nothing is rejected, and never further than the next of the prescribed times.
        torchdiffeq.odeint(
            lambda t, y: field(torch, t, y, torch_weights),
            torch.tensor(Y0),
            torch.tensor([0.0, 1.0], dtype=torch.float64),
            rtol=1e3,
            atol=1e3,
            method="dopri5",
            options={"first_step": 1.0, "step_t": torch.tensor(grid[1:])},
        )
    assert np.allclose(seen.trace.numpy()["t"], grid[:-1])

    def penalty(weights, chosen):
        pairs = zip(chosen, (term for _, term in term.pairs()), strict=True)
        with tap.observe(sum(w * t for w, t in pairs)) as seen:
            diffrax.diffeqsolve(
                diffrax.ODETerm(lambda t, y, w: field(jnp, t, y, w)),
                diffrax.Dopri5(),
                0.0,
                1.0,
                None,
                jnp.asarray(Y0),
                weights,
                stepsize_controller=diffrax.StepTo(grid),
            )
        return seen.penalty

    assert_agree(penalty, weights, seen, torch_weights, GRID_VALUE, GRID_GRADIENT)


_one_at_a_time = threading.Lock()


class _PathOf(diffrax.AbstractPath):
    """torchsde's Brownian path, asked for its increments from inside JAX."""

    path: object
    t0: float = 0.0
    t1: float = 1.0

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        def ask(a, b):
            with _one_at_a_time:  # a BrownianInterval caches, and XLA calls back from several threads
                return self.path(torch.tensor(np.asarray(a)), torch.tensor(np.asarray(b)))[0].numpy()

        return jax.pure_callback(ask, jax.ShapeDtypeStruct((2,), np.float64), t0, t1, vmap_method="sequential")


SDE_METHODS = {"heun": diffrax.Heun, "midpoint": diffrax.Midpoint, "euler_heun": diffrax.EulerHeun}


@pytest.mark.parametrize("method", SDE_METHODS)
def test_on_one_brownian_path_torchsde_and_diffrax_agree(method):
    weights, y0, tolerance = weights_of(3)[:2, :2], np.array([1.0, -0.5]), 3e-3
    drift = lambda xp, t, y, w: 3 * xp.tanh(w @ y) + xp.sin(20 * t)  # noqa: E731  # one formula for both
    diffusion = lambda xp, y, w: 0.3 * xp.sin(w.T @ y)  # noqa: E731  # likewise
    torch_weights = torch.tensor(weights, requires_grad=True)
    path = torchsde.BrownianInterval(0.0, 1.0, size=(1, 2), dtype=torch.float64, entropy=5, tol=1e-5, halfway_tree=True)

    class SDE(torch.nn.Module):
        noise_type, sde_type = "diagonal", "stratonovich"

        def f(self, t, y):
            return drift(torch, t, y[0], torch_weights)[None]

        def g(self, t, y):
            return diffusion(torch, y[0], torch_weights)[None]

    term = tap.LocalError(rtol=tolerance, atol=tolerance) + tap.Stiffness()
    with tap.observe(term, trace=True) as seen:
        torchsde.sdeint(
            SDE(),
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
    trace = seen.trace.numpy()
    grid = np.append(trace["t"][trace["accepted"]], 1.0)

    def penalty(weights, chosen):
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, y, w: drift(jnp, t, y, w)),
            diffrax.ControlTerm(lambda t, y, w: jnp.diag(diffusion(jnp, y, w)), _PathOf(path)),
        )
        pairs = zip(chosen, (term for _, term in term.pairs()), strict=True)
        with tap.observe(sum(w * t for w, t in pairs)) as seen:
            diffrax.diffeqsolve(
                terms,
                diffrax.HalfSolver(SDE_METHODS[method]()),
                0.0,
                1.0,
                None,
                jnp.asarray(y0),
                weights,
                stepsize_controller=diffrax.StepTo(grid),
            )
        return seen.penalty

    assert_agree(penalty, weights, seen, torch_weights, SDE_VALUE, SDE_GRADIENT)
