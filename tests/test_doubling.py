"""`LocalError(estimate="doubling")`: the error of a step where the solver has none, by taking it in halves."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")
torchsde = pytest.importorskip("torchsde")

from torchdiffeq import odeint, odeint_adjoint

import solvertap as tap
from solvertap import errors

ERROR = tap.LocalError(estimate="doubling", scale="raw")
TIMES = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
W = torch.randn((3, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y0 = torch.randn((4, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
METHODS = ("euler", "midpoint", "heun2", "heun3", "rk4")


class SDE(torch.nn.Module):
    noise_type = "diagonal"

    def __init__(self, w, sde_type="ito"):
        super().__init__()
        self.w, self.sde_type = w, sde_type

    def f(self, t, y):
        return torch.tanh(y @ self.w) - y

    def g(self, t, y):
        return 0.2 * torch.sigmoid(y @ self.w)


def _ode(w, method="rk4", solver=odeint, y0=Y0):
    return solver(lambda t, y: torch.tanh(y @ w) - t * y, y0, TIMES, method=method, options={"step_size": 0.2})


def _sde(w, method="milstein", sde_type="ito", adjoint=False):
    path = torchsde.BrownianInterval(0.0, 1.0, size=(4, 3), dtype=torch.float64, entropy=3)
    solve = torchsde.sdeint_adjoint if adjoint else torchsde.sdeint
    return solve(SDE(w, sde_type), Y0, TIMES, bm=path, dt=0.25, method=method)


SOLVES = {method: (lambda w, method=method: _ode(w, method)) for method in METHODS} | {
    "sde-euler": lambda w: _sde(w, "euler"),
    "sde-milstein": _sde,
    "sde-heun": lambda w: _sde(w, "heun", "stratonovich"),
    "sde-reversible_heun": lambda w: _sde(w, "reversible_heun", "stratonovich"),
}


@pytest.mark.parametrize("method", SOLVES)
def test_solution_is_bitwise_the_same_and_the_gradient_is_that_of_differences(method):
    solve = SOLVES[method]

    def penalty(w):
        with tap.observe(ERROR) as seen:
            solution = solve(w)
        return solution, seen.penalty

    w = W.clone().requires_grad_()
    solution, value = penalty(w)
    assert torch.equal(solution, solve(w))
    assert value > 0
    (gradient,) = torch.autograd.grad(value, w)
    for place in ((0, 0), (1, 2)):
        along = torch.zeros_like(W)
        along[place] = 1e-6
        difference = (penalty(W + along)[1] - penalty(W - along)[1]).item() / 2e-6
        assert gradient[place].item() == pytest.approx(difference, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("heun3", 3), ("rk4", 4)])
def test_error_falls_with_the_order_of_the_method(method, order):
    """Of one step: it is the difference of two solutions whose local errors are h to the order plus one."""

    def error(h):
        term = tap.LocalError(estimate="doubling", scale="raw", weigh_by_step=False)
        with tap.observe(term) as seen:
            odeint(
                lambda t, y: torch.tanh(y @ W) - t * y, Y0, torch.tensor([0.0, h], dtype=torch.float64), method=method
            )
        return seen.penalty.item()

    assert error(0.02) / error(0.01) == pytest.approx(2 ** (order + 1), rel=0.1)


def test_value_is_what_two_solves_tell():
    step = torch.tensor([0.0, 0.3], dtype=torch.float64)
    halves = torch.tensor([0.0, 0.15, 0.3], dtype=torch.float64)

    def solve(times):
        return odeint(lambda t, y: torch.tanh(y @ W) - t * y, Y0, times, method="rk4")[-1]

    with tap.observe(tap.LocalError(estimate="doubling", rtol=1e-3, atol=1e-4)) as seen:
        y1 = solve(step)
    scale = 1e-4 + 1e-3 * torch.maximum(Y0.abs(), y1.abs())
    expected = 0.3 * ((y1 - solve(halves)) / scale).square().mean().sqrt()
    torch.testing.assert_close(seen.penalty, expected, rtol=1e-12, atol=0)
    assert (seen.stats.evaluations, seen.stats.measuring) == (4, 8)


def test_statistics_alone_take_no_halves():
    with tap.observe() as seen:
        _ode(W)
    assert seen.stats.evaluations == 4 * seen.stats.accepted


def test_backwards_in_time_and_checkpointed():
    def penalty(w, **options):
        with tap.observe(ERROR, **options) as seen:
            odeint(lambda t, y: torch.tanh(y @ w) - t * y, Y0, TIMES.flip(0), method="rk4", options={"step_size": 0.2})
        return seen.penalty

    w = W.clone().requires_grad_()
    plain, checkpointed = penalty(w), penalty(w, checkpoint=True)
    assert torch.equal(plain, checkpointed)
    torch.testing.assert_close(
        torch.autograd.grad(checkpointed, w)[0], torch.autograd.grad(plain, w)[0], rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize(
    ("solve", "error", "why"),
    [
        (lambda: odeint(lambda t, y: -y, Y0, TIMES), errors.NoEstimateError, "its own error"),
        (lambda: _ode(W, "explicit_adams"), errors.FixedStepError, "AdamsBashforth"),
        (
            lambda: _ode(W, solver=lambda f, *args, **kw: odeint_adjoint(f, *args, adjoint_params=(), **kw)),
            errors.ContinuousAdjointError,
            "odeint_adjoint",
        ),
        (lambda: _sde(W.clone().requires_grad_(), adjoint=True), errors.ContinuousAdjointError, "sdeint_adjoint"),
    ],
)
def test_where_it_would_mean_nothing_it_is_refused(solve, error, why):
    with pytest.raises(error, match=why), tap.observe(ERROR):
        solve()


def test_tolerance_is_asked_for_where_fixed_steps_have_none():
    with pytest.raises(errors.NoToleranceError), tap.observe(tap.LocalError(estimate="doubling")):
        _ode(W.clone().requires_grad_())


def test_estimate_is_one_of_two():
    with pytest.raises(errors.InvalidInputError, match="doubling"):
        tap.LocalError(estimate="halving")


def test_text_names_it():
    assert tap.parse_term("2*local_error:estimate=doubling:scale=raw")(0).pairs() == ((2.0, ERROR),)


def test_regularize_adds_it_to_a_script_with_fixed_steps():
    w = W.clone().requires_grad_()
    (plain,) = torch.autograd.grad(_ode(w).sum(), w)
    with tap.observe(ERROR) as seen:
        _ode(w)
    (penalty,) = torch.autograd.grad(seen.penalty, w)
    optimiser = torch.optim.SGD([w], lr=0.1)
    with tap.regularize("local_error:estimate=doubling:scale=raw"):
        optimiser.zero_grad()
        _ode(w).sum().backward()
    torch.testing.assert_close(w.grad - plain, penalty, rtol=1e-6, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["Euler", "ItoMilstein", "SemiImplicitEuler"])
def test_diffrax_solvers_without_an_estimate(solver):
    jax = pytest.importorskip("jax")
    diffrax = pytest.importorskip("diffrax")
    jnp = jax.numpy
    w, y0 = jnp.asarray(W.numpy()), jnp.asarray(Y0.numpy())
    path = diffrax.VirtualBrownianTree(0.0, 1.0, 1e-3, (4, 3), jax.random.key(0))

    def solve(w):
        drift = diffrax.ODETerm(lambda t, y, args: jnp.tanh(y @ w) - t * y)
        noise = diffrax.WeaklyDiagonalControlTerm(lambda t, y, args: 0.2 * jax.nn.sigmoid(y @ w), path)
        if solver == "SemiImplicitEuler":
            terms = (drift, diffrax.ODETerm(lambda t, y, args: -jnp.tanh(y @ w)))
            return diffrax.diffeqsolve(terms, diffrax.SemiImplicitEuler(), 0.0, 1.0, 0.25, (y0, y0 / 2))
        terms = diffrax.MultiTerm(drift, noise) if solver == "ItoMilstein" else drift
        return diffrax.diffeqsolve(terms, getattr(diffrax, solver)(), 0.0, 1.0, 0.25, y0)

    def penalty(w):
        with tap.observe(ERROR) as seen:
            solution = solve(w)
        return seen.penalty, (solution.ys, seen.stats)

    (value, (ys, stats)), gradient = jax.jit(jax.value_and_grad(penalty, has_aux=True))(w)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, ys, jax.jit(solve)(w).ys))
    assert value > 0
    assert int(stats.evaluations) == int(stats.accepted)
    assert int(stats.measuring) == 2 * int(stats.accepted)
    along = jnp.zeros_like(w).at[1, 2].set(1e-6)
    difference = (penalty(w + along)[0] - penalty(w - along)[0]) / 2e-6
    assert float(gradient[1, 2]) == pytest.approx(float(difference), rel=1e-6, abs=1e-9)


@pytest.mark.slow
def test_euler_agrees_between_torchdiffeq_and_diffrax():
    jax = pytest.importorskip("jax")
    diffrax = pytest.importorskip("diffrax")
    jnp = jax.numpy

    def penalty(w):
        field = diffrax.ODETerm(lambda t, y, args: jnp.tanh(y @ w) - t * y)
        with tap.observe(ERROR) as seen:
            diffrax.diffeqsolve(field, diffrax.Euler(), 0.0, 1.0, 0.2, jnp.asarray(Y0.numpy()))
        return seen.penalty

    value, gradient = jax.value_and_grad(penalty)(jnp.asarray(W.numpy()))
    w = W.clone().requires_grad_()
    with tap.observe(ERROR) as seen:
        odeint(lambda t, y: torch.tanh(y @ w) - t * y, Y0, TIMES[[0, 2]], method="euler", options={"step_size": 0.2})
    (expected,) = torch.autograd.grad(seen.penalty, w)
    assert float(value) == pytest.approx(seen.penalty.item(), rel=1e-11)
    torch.testing.assert_close(torch.tensor(gradient.tolist(), dtype=torch.float64), expected, rtol=1e-9, atol=1e-12)
