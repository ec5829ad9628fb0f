"""`LocalSample` in JAX, and the same in torch."""

from functools import cache, partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
pytest.importorskip("torchdiffeq")
torchsde = pytest.importorskip("torchsde")
diffrax = pytest.importorskip("diffrax")

import equinox as eqx
import jax.numpy as jnp
import torchdiffeq

import solvertap as tap
from solvertap import adapting, errors
from tests.quick_jit import quick_jit
from tests.test_parity import (
    METHODS,
    SDE_METHODS,
    diffrax_sde,
    field,
    on_grid_of_torchdiffeq,
    solve_torch_sde,
    weights_of,
)

KEY = jax.random.key(0)
SAMPLE = tap.LocalSample(tap.LocalError())
BOTH = 2.0 * SAMPLE + 0.1 * tap.LocalSample(tap.Stiffness())
W = jnp.asarray(2 * np.random.default_rng(0).normal(size=(3, 3)))
Y0 = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))
TOLERANCE = 1e-5
CONTROLLER = diffrax.PIDController(rtol=TOLERANCE, atol=TOLERANCE)


def _slope(t, y, w):
    return 4 * jnp.tanh(y @ w) + jnp.sin(9 * t) - y


def _solve(w, *, t0=0.2, t1=1.7, dt0=0.1, y0=Y0, solver=None, slope=_slope, **options):
    settings = {"stepsize_controller": CONTROLLER} | options
    solver = diffrax.Dopri5() if solver is None else solver
    return diffrax.diffeqsolve(diffrax.ODETerm(slope), solver, t0, t1, dt0, y0, w, **settings)


def _seen(term, w, key=KEY, **options):
    with tap.observe(term, key=key) as seen:
        _solve(w, **options)
    return seen


def _penalty(w, term=BOTH, key=KEY, **options):
    return _seen(term, w, key, **options).penalty


def numbers_of(key, index=0):
    """The numbers that the solve at a place of a block draws by that key, for a solve of torch."""
    key = jax.random.fold_in(key, index)
    return lambda n: float(jax.random.uniform(jax.random.fold_in(key, n)))


# --- The step that is measured ----------------------------------------------------------------------------------------


def _tree_slope(t, y, w):
    return {"a": _slope(t, y["a"], w), "b": -_slope(t, y["b"], w.T)}


CASES = {
    "Dopri5": {},
    "backwards": {"t0": 1.7, "t1": 0.2, "dt0": -0.1},
    "implicit": {"solver": diffrax.Kvaerno3()},
    "doubled": {"solver": diffrax.HalfSolver(diffrax.Ralston())},
    "event": {"event": diffrax.Event(lambda t, y, args, **_: t > 1.1)},
    "pytree": {"slope": _tree_slope, "y0": {"a": Y0, "b": Y0[:1] / 2}},
}


@pytest.mark.parametrize(("name", "draw"), [*((name, "uniform") for name in CASES), ("Dopri5", "steps")])
def test_value_and_gradient_are_those_of_one_step_that_starts_from_a_constant(name, draw):
    options = {"dt0": 0.1, "t0": 0.2, "t1": 1.7} | CASES[name]
    error = tap.LocalError(rtol=TOLERANCE, atol=TOLERANCE)
    y0 = options.get("y0", Y0)
    size = sum(x.size for x in jax.tree.leaves(y0))

    def state(step, i):
        return jnp.concatenate([x.ravel() for x in (step.y0 if isinstance(step.y0, tuple) else (step.y0,))])[i]

    # Where it starts is told by terms of one number each.
    told = [
        tap.term(lambda step: step.t0, name="t0"),
        tap.term(lambda step: step.t1, name="t1"),
        *(tap.term(partial(state, i=i), name=f"y{i}") for i in range(size)),
    ]
    samples = [tap.LocalSample(term, draw=draw, name=term.name) for term in (error, *told)]

    @partial(jax.value_and_grad, has_aux=True)
    def sampled(w):
        seen = _seen(sum(samples, start=0), w, **options)
        return seen.values["local_error"], seen.values

    (value, values), gradient = quick_jit(sampled)(W)
    _, unravel = jax.flatten_util.ravel_pytree(y0)
    start = unravel(jnp.stack([values[f"y{i}"] for i in range(size)]))
    once = {key: x for key, x in options.items() if key not in ("event", "saveat")}
    grid = jnp.stack([values["t0"], values["t1"]])
    once |= {"t0": grid[0], "t1": grid[1], "dt0": None, "y0": start}
    once["stepsize_controller"] = diffrax.StepTo(grid)
    if name == "implicit":  # which has its own tolerance from the controller; the step is kept whatever its error
        once["dt0"] = grid[1] - grid[0]
        once["stepsize_controller"] = diffrax.PIDController(rtol=TOLERANCE, atol=TOLERANCE, dtmin=1.0)

    @jax.value_and_grad
    def alone(w):
        with tap.observe(error) as seen:
            _solve(w, **once)
        return seen.penalty

    expected, expected_gradient = quick_jit(alone)(W)
    assert float(abs(grid[1] - grid[0])) > 0
    assert float(value) == pytest.approx(float(expected), rel=1e-10) != 0
    assert np.allclose(gradient, expected_gradient, rtol=1e-8, atol=1e-10 * abs(expected_gradient).max())


@cache
def _by_default(term):
    return quick_jit(jax.value_and_grad(partial(_penalty, term=term)))(W)


ADJOINTS = {
    "DirectAdjoint": diffrax.DirectAdjoint(),
    "BacksolveAdjoint": diffrax.BacksolveAdjoint(),
    "BacksolveAdjoint of another solver": diffrax.BacksolveAdjoint(solver=diffrax.Heun()),
}


@pytest.mark.parametrize(
    ("adjoint", "draw"),
    [
        ("DirectAdjoint", "uniform"),
        ("BacksolveAdjoint", "uniform"),
        ("BacksolveAdjoint of another solver", "uniform"),
    ],
)
def test_every_adjoint_gives_the_same_value_and_gradient(adjoint, draw):
    term = tap.LocalSample(tap.LocalError(), draw=draw) + 0.1 * tap.LocalSample(tap.Stiffness(), draw=draw)
    options = {"adjoint": ADJOINTS[adjoint]}
    value, gradient = quick_jit(jax.value_and_grad(partial(_penalty, term=term, **options)))(W)
    expected, expected_gradient = _by_default(term)
    assert float(value) == pytest.approx(float(expected), rel=1e-12)
    assert np.allclose(gradient, expected_gradient, rtol=1e-10)

    def whole(w):
        with tap.observe(term, key=KEY) as seen:
            solution = _solve(w, **options)
        return jnp.mean(solution.ys**2) + seen.penalty

    plain = quick_jit(jax.grad(lambda w: jnp.mean(_solve(w, **options).ys ** 2)))(W)
    assert np.allclose(quick_jit(jax.grad(whole))(W), plain + gradient, rtol=1e-10)


def test_backward_solve_of_the_adjoint_draws_nothing(monkeypatch):
    states, update = [], adapting.Fold.update

    def heard(fold, carry, step, draws=None):
        states.append(step.y0)
        return update(fold, carry, step, draws)

    monkeypatch.setattr(adapting.Fold, "update", heard)
    quick_jit(jax.grad(partial(_penalty, term=SAMPLE, adjoint=diffrax.BacksolveAdjoint()))).trace(W)
    assert states
    assert not any(isinstance(state, tuple) for state in states)  # as that of the state and its adjoint would be


def test_forward_mode_and_second_derivatives():
    along = jnp.ones_like(W)
    forward = partial(_penalty, adjoint=diffrax.ForwardMode())
    value, tangent = quick_jit(lambda w: jax.jvp(forward, (w,), (along,)))(W)
    direct = partial(_penalty, adjoint=diffrax.DirectAdjoint())
    expected, gradient = quick_jit(jax.value_and_grad(direct))(W)
    assert float(value) == pytest.approx(float(expected), rel=1e-12)
    assert float(tangent) == pytest.approx(float(jnp.sum(gradient * along)), rel=1e-9)
    curvature = quick_jit(lambda w: jax.jvp(jax.grad(direct), (w,), (along,))[1])(W)
    assert np.all(np.isfinite(curvature))
    assert abs(curvature).max() > 0


def test_times_narrower_than_what_is_kept_leave_the_state_as_narrow():
    narrow = {"t0": jnp.float32(0.2), "t1": jnp.float32(1.7), "dt0": jnp.float32(0.1), "y0": Y0.astype(jnp.float32)}
    value, gradient = quick_jit(jax.value_and_grad(partial(_penalty, **narrow)))(W.astype(jnp.float32))
    assert value.dtype == gradient.dtype == jnp.float32
    assert float(value) == pytest.approx(float(_penalty(W)), rel=0.05)


def test_solve_of_no_length_and_state_without_arrays_have_the_value_zero():
    value, gradient = quick_jit(jax.value_and_grad(partial(_penalty, t1=0.2)))(W)
    assert value == 0
    assert np.all(gradient == 0)
    one = tap.LocalSample(tap.term(lambda step: jnp.ones(()), name="one"))
    assert (_penalty(W, one), _penalty(W, one, t1=0.2)) == (1, 0)
    assert _penalty(W, y0={}, slope=lambda t, y, w: {}) == 0


def test_states_are_handed_on_without_what_is_kept():
    saveat = diffrax.SaveAt(t1=True, solver_state=True)
    first = _solve(W, t1=1.0, saveat=saveat)

    def second(w):
        return _solve(w, t0=1.0, y0=first.ys[-1], saveat=saveat, solver_state=first.solver_state)

    with tap.observe(SAMPLE, key=KEY) as seen:
        found = second(W)
    assert seen.penalty > 0
    assert jax.tree.structure(found.solver_state) == jax.tree.structure(second(W).solver_state)
    assert np.array_equal(found.ys, second(W).ys)


def test_evaluations_of_the_extra_steps_are_counted():
    bare = _seen(None, W).stats
    # The slope at the start and six more.
    assert _seen(SAMPLE, W).stats == bare._replace(measuring=14)
    assert _seen(tap.LocalSample(tap.LocalError(), draw="steps"), W).stats == bare._replace(measuring=7)
    # Two for each step; S takes two more of the one that is measured.
    assert _seen(tap.LocalSample(tap.Stiffness()), W, solver=diffrax.Ralston()).stats.measuring == 6


# --- The draw ---------------------------------------------------------------------------------------------------------


def test_key_is_needed_and_each_solve_of_a_block_has_its_own_draw():
    with pytest.raises(errors.InvalidInputError, match=r"`observe\(term, key=jax\.random\.key\(0\)\)`"):
        _penalty(W, key=None)
    with tap.observe(SAMPLE, key=KEY) as seen:
        _solve(W)
        _solve(W)
    one, two = (solve.values[SAMPLE] for solve in seen.solves)
    assert one != two
    assert one == _penalty(W, SAMPLE)


def test_another_key_compiles_nothing_and_each_sample_has_its_own():
    traces = []

    @quick_jit
    def penalty(w, key):
        traces.append(key)
        return _penalty(w, key=key)

    keys = jax.random.split(KEY, 3)
    values = [float(penalty(W, key)) for key in keys]
    assert len(traces) == 1
    assert len(set(values)) == 3
    assert np.allclose(jax.vmap(penalty, (None, 0))(W, keys), values, rtol=1e-12)


class _Forced(eqx.Module):
    """Numbers that take one step and none after it, and one place in it."""

    step: jax.Array
    place: jax.Array

    def __call__(self, n):
        return jnp.where(n == 0, self.place, jnp.where(n == self.step, 0.0, 1.0))


@pytest.mark.parametrize("draw", ["uniform", "steps"])
def test_mean_over_many_draws_is_the_integral_or_the_mean_over_the_steps(draw):
    error = tap.LocalError(reduce="mean")
    term = tap.LocalSample(error, draw=draw)
    found = quick_jit(jax.vmap(lambda key: _penalty(W, term, key)))(jax.random.split(KEY, 2000))
    with tap.observe(error, trace=True) as seen:
        _solve(W, max_steps=64)
    mean = float(seen.penalty)
    if draw == "uniform":
        trace = seen.trace.numpy()
        starts, sizes = (trace[name][trace["accepted"]] for name in ("t", "h"))
        nodes, weights = np.polynomial.legendre.leggauss(8)
        places, weights = (nodes + 1) / 2, weights / 2

        def forced(step, place):
            return _penalty(W, term, _Forced(step, place))

        steps, inside = (x.ravel() for x in np.meshgrid(np.arange(1, len(starts) + 1), places, indexing="ij"))
        values = np.asarray(quick_jit(jax.vmap(forced))(jnp.asarray(steps), jnp.asarray(inside)))
        each = values.reshape(len(starts), -1) @ weights
        mean = float(np.sum(each * sizes) / 1.5)
    assert np.std(found) > 0.05 * mean
    assert abs(np.mean(found) - mean) < 2 * np.std(found) / np.sqrt(2000)


# --- The same in torch ------------------------------------------------------------------------------------------------


def _assert_same(values, seen, torch_weights):
    weights = torch_weights.detach().numpy()
    found, gradients = quick_jit(values)(weights), quick_jit(jax.jacrev(values))(weights)
    for name, value in seen.values.items():
        (expected,) = torch.autograd.grad(value, torch_weights, retain_graph=True)
        assert float(found[name]) == pytest.approx(value.item(), rel=1e-9) != 0
        assert np.linalg.norm(gradients[name] - expected.numpy()) <= 1e-9 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("method", "draw"), [("dopri5", "uniform"), ("dopri5", "steps"), ("bosh3", "uniform"), ("dopri8", "uniform")]
)
def test_from_the_same_time_torchdiffeq_and_diffrax_measure_the_same(method, draw):
    # The higher the order, the longer the steps, so that no error is a rounding.
    steps = {"bosh3": 24, "dopri5": 8, "dopri8": 3}[method]
    weights, grid = 0.3 * weights_of(2), np.linspace(0, 1, steps + 1)
    terms = [tap.LocalError(rtol=1e-6, atol=1e-6), tap.Stiffness(), tap.KineticEnergy()]
    samples = sum((tap.LocalSample(term, draw=draw) for term in terms), start=0)
    torch_weights = torch.tensor(weights, requires_grad=True)
    with tap.observe(samples, key=numbers_of(KEY)) as seen:
        on_grid_of_torchdiffeq(torchdiffeq.odeint_adjoint, method, torch_weights, grid, adjoint_params=(torch_weights,))

    def values(w):
        with tap.observe(samples, key=KEY) as seen:
            diffrax.diffeqsolve(
                diffrax.ODETerm(lambda t, y, w: field(jnp, t, y, w)),
                METHODS[method](),
                0.0,
                1.0,
                None,
                Y0,
                w,
                stepsize_controller=diffrax.StepTo(grid),
            )
        return seen.values

    _assert_same(values, seen, torch_weights)


@pytest.mark.parametrize("draw", ["uniform", "steps"])
@pytest.mark.parametrize("row", [("heun", "stratonovich", "diagonal"), ("milstein", "ito", "diagonal")])
def test_on_one_brownian_path_torchsde_and_diffrax_measure_the_same(row, draw):
    y0, tolerance = np.array([1.0, -0.5]), 2e-2
    terms = [tap.LocalError(rtol=tolerance, atol=tolerance), tap.Stiffness()]
    samples = {term.name: tap.LocalSample(term, draw=draw, name=term.name) for term in terms}
    seen, torch_weights, path = solve_torch_sde(*row, samples, y0, tolerance, align=False, key=numbers_of(KEY))
    trace = seen.trace.numpy()
    grid = np.append(trace["t"][trace["accepted"]], 1.0)

    def values(w):
        with tap.observe(sum(samples.values(), start=0), key=KEY) as seen:
            diffrax.diffeqsolve(
                diffrax_sde(w, row[2], path),
                diffrax.HalfSolver(SDE_METHODS[row[:2]]()),
                0.0,
                1.0,
                None,
                jnp.asarray(y0),
                stepsize_controller=diffrax.StepTo(grid),
            )
        return seen.values

    _assert_same(values, seen, torch_weights)


# --- Added to code that knows nothing of it ---------------------------------------------------------------------------


def _loss(w, **options):
    return jnp.mean(_solve(w, **options).ys ** 2)


def _batched(each):
    return lambda w, **options: jnp.mean(jax.vmap(lambda y0: each(w, y0=y0, **options))(Y0))


_BACKSOLVE = {"adjoint": diffrax.BacksolveAdjoint()}
LOSSES = {
    "whole": (_loss, _penalty),
    "mapped adjoint": (partial(_batched(_loss), **_BACKSOLVE), partial(_batched(_penalty), **_BACKSOLVE)),
    # Made anew each time: what JAX has traced before it does not trace again.
    "checkpointed": (lambda w: jax.checkpoint(lambda w: _loss(w))(w), _penalty),
}


@pytest.mark.parametrize("name", LOSSES)
def test_regularize_adds_its_gradient_under_every_adjoint(name):
    loss, penalty = LOSSES[name]
    unkeyed = partial(penalty, term=BOTH, key=adapting.FallbackKey(0))
    plain = quick_jit(jax.grad(loss))(W)
    expected = plain + quick_jit(jax.grad(unkeyed))(W)
    with tap.regularize(BOTH) as regularizer:
        value, gradient = jax.jit(jax.value_and_grad(lambda w: loss(w)))(W)
        jax.effects_barrier()
    assert value == jax.jit(loss)(W)
    assert np.allclose(gradient, expected, rtol=1e-9)
    assert not np.allclose(gradient, plain, rtol=1e-3)
    assert not regularizer.left_out


def test_another_training_step_of_a_compiled_program_draws_anew():
    drawn = []
    step = quick_jit(jax.grad(lambda w: _loss(w, adjoint=diffrax.BacksolveAdjoint())))
    with tap.regularize(
        tap.LocalSample(tap.term(lambda step: step.t0, name="time")),
        listener=lambda record: drawn.append(float(record.values["sampled_time"])),
    ):
        for k in range(40):
            step(W + 1e-4 * k)
        jax.effects_barrier()
    assert len(set(drawn)) == 40
    # Spread over the whole time, as 40 of them are but once in a thousand times.
    times = np.sort(drawn)
    assert abs((times - 0.2) / 1.5 - (np.arange(40) + 0.5) / 40).max() < 1.95 / np.sqrt(40)
