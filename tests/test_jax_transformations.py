"""The tapped solve under what JAX, equinox and optax do to functions: each gives what the plain function gives."""

import gc
from functools import partial

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("diffrax")
optax = pytest.importorskip("optax")

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jax import export, monitoring

import solvertap as tap
from tests.faults import fault
from tests.oracle import assert_gradient_matches
from tests.quick_jit import quick_jit

WEIGHTS = jnp.array([[-1.0, 2.0], [-2.0, 0.5]])
Y0 = jnp.array([1.0, -0.5])
BATCH = jnp.stack([Y0, 3 * Y0, 0.1 * Y0])
DIRECTION = np.random.default_rng(0).normal(size=(2, 2))
TOLERANCE = {"rtol": 1e-3, "atol": 1e-3}
EPOCHS = 50
ANNEALED = tap.anneal(10.0, 1.0, EPOCHS)
OPTIMIZER = optax.adam(0.02)
COMPILED = "/jax/core/compile/backend_compile_duration"

differentiated = partial(jax.value_and_grad, has_aux=True)
traced = []


def field(t, y, weights):
    traced.append(None)
    return 3 * jnp.tanh(weights @ y) - y


def solve(weights, y0=Y0, field=field, dt0=0.9, **options):
    """The first step given is too large: it is rejected."""
    options = {"stepsize_controller": diffrax.PIDController(**TOLERANCE), "max_steps": 16} | options
    return diffrax.diffeqsolve(diffrax.ODETerm(field), diffrax.Bosh3(), 0.0, 1.0, dt0, y0, weights, **options)


def task(solution):
    return jnp.sum(solution.ys**2)


def loss(weights, y0=Y0, weight=10.0, **options):
    with tap.observe(weight * (tap.LocalError() + 0.01 * tap.Stiffness())) as seen:
        solution = solve(weights, y0, **options)
    return task(solution) + seen.penalty, (seen.stats, solution.ys)


compiled = quick_jit(differentiated(loss))


def plain(weights=WEIGHTS, y0=Y0, weight=10.0):
    """The ((loss, (counts, solution)), gradient) that every transformation is to give."""
    return compiled(weights, y0, weight)


def assert_same(found, expected):
    """The same up to rounding, which another order of summation changes."""
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-10), found, expected)


def ahead_of_time():
    weights = WEIGHTS.copy()
    executable = quick_jit(differentiated(loss), donate_argnums=0).lower(weights).compile()
    found = executable(weights)
    assert weights.is_deleted()
    return found


def exported():
    # The error check of diffrax is a host callback, which JAX does not export.
    gradient = quick_jit(differentiated(lambda weights: loss(weights, throw=False)))
    return export.export(gradient)(WEIGHTS).call(WEIGHTS)


def converted():
    converted = eqx.filter_closure_convert(loss, WEIGHTS)
    return eqx.filter_jit(eqx.filter_value_and_grad(converted, has_aux=True))(WEIGHTS)


WAYS = {
    "`jax.checkpoint`": lambda: quick_jit(differentiated(jax.checkpoint(loss)))(WEIGHTS),
    "compiled ahead of time, its buffers donated": ahead_of_time,
    "`jax.export`": exported,
    "`eqx.filter_closure_convert`": converted,
}


@pytest.mark.slow
@fault("the loss is checkpointed, exported, compiled ahead of time", "value, gradient and counts are the same")
@pytest.mark.parametrize("name", WAYS)
def test_transformed_loss_has_value_gradient_and_counts_of_the_plain_one(name):
    expected = plain()
    assert expected[0][1][0].rejected > 0
    assert_same(WAYS[name](), expected)


@pytest.mark.slow
@fault("the penalty is wanted in one branch of `lax.cond`", "each branch has its own value, gradient and counts")
def test_branch_that_is_taken_decides_whether_there_is_a_penalty():
    def counted(weights):
        with tap.observe() as seen:
            solution = solve(weights)
        return task(solution), (seen.stats, solution.ys)

    @quick_jit
    @differentiated
    def either(weights, penalized):
        return jax.lax.cond(penalized, loss, counted, weights)

    assert_same(either(WEIGHTS, True), plain())
    (value, (stats, ys)), gradient = either(WEIGHTS, False)
    (expected, (penalized, expected_ys)), expected_gradient = plain(weight=0.0)
    assert_same((value, ys, gradient), (expected, expected_ys, expected_gradient))
    assert (stats.accepted, stats.rejected) == (penalized.accepted, penalized.rejected)
    assert stats.evaluations == penalized.evaluations
    assert stats.measuring < penalized.measuring


@pytest.mark.slow
@fault("`vmap` of `vmap` of `grad`, over states, parameters and weights", "each sample has its own gradient and steps")
def test_samples_of_nested_batches_have_gradients_and_steps_of_their_own():
    weights, strengths = jnp.stack([WEIGHTS, 0.5 * WEIGHTS], axis=2), jnp.array([10.0, 1.0])
    over_samples = jax.vmap(differentiated(loss), in_axes=(None, 1, None))
    found = quick_jit(jax.vmap(over_samples, in_axes=(2, None, 0)))(weights, BATCH.T, strengths)
    assert len(np.unique(found[0][1][0].accepted)) > 2
    for i, strength in enumerate(strengths):
        for j, y0 in enumerate(BATCH):
            assert_same(jax.tree.map(lambda x, at=(i, j): x[at], found), plain(weights[..., i], y0, strength))


@pytest.mark.slow
@fault("equinox's own transformations, around a module", "value, gradient and counts are those under JAX's")
def test_filtered_transformations_of_a_module_average_the_gradients_of_its_samples():
    class Model(eqx.Module):
        weights: jax.Array

        def __call__(self, t, y, args):
            return field(t, y, self.weights)

    def sample(model, y0):
        return loss(None, y0, field=model)

    @eqx.filter_jit
    @partial(eqx.filter_value_and_grad, has_aux=True)
    def average(model, batch):
        losses, (stats, ys) = eqx.filter_vmap(eqx.filter_checkpoint(sample), in_axes=(None, 0))(model, batch)
        return losses.mean(), (stats.accepted, ys)

    (value, aux), gradient = average(Model(WEIGHTS), BATCH)
    singly = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(plain(y0=y0) for y0 in BATCH))
    (values, (stats, ys)), gradients = singly
    assert_same((value, aux, gradient.weights), (values.mean(), (stats.accepted, ys), gradients.mean(axis=0)))


@pytest.mark.slow
@fault("`jacrev`, `jacfwd`, `linearize`", "they agree; forward mode wants `diffrax.ForwardMode()`")
def test_jacobians_of_the_terms_add_up_to_the_gradient_of_the_loss():
    def values(weights, adjoint):
        with tap.observe(tap.LocalError() + tap.Stiffness()) as seen:
            solution = solve(weights, adjoint=adjoint)
        return jnp.stack([task(solution), seen.values["local_error"], seen.values["stiffness"]])

    forward = partial(values, adjoint=diffrax.ForwardMode())
    jacobian = quick_jit(jax.jacrev(partial(values, adjoint=diffrax.RecursiveCheckpointAdjoint())))(WEIGHTS)
    assert_same(np.tensordot([1, 10, 0.1], jacobian, 1), plain()[1])
    assert_same(quick_jit(jax.jacfwd(forward))(WEIGHTS), jacobian)
    _, push = jax.linearize(forward, WEIGHTS)
    assert_same(push(jnp.asarray(DIRECTION)), np.tensordot(jacobian, DIRECTION, 2))


@pytest.mark.slow
@fault("second derivatives", "those of the frozen grid; under `DirectAdjoint` or `ForwardMode`, as in diffrax alone")
def test_second_derivatives_are_those_of_the_frozen_grid():
    def penalty(weights, **options):
        with tap.observe(tap.LocalError(**TOLERANCE) + 0.1 * tap.Stiffness()) as seen:
            solution = solve(weights, saveat=diffrax.SaveAt(steps=True), **options)
        return seen.penalty, (solution.ts, seen.stats.rejected)

    def forward(weights):
        return penalty(weights, adjoint=diffrax.ForwardMode())[0]

    direct = jax.grad(partial(penalty, adjoint=diffrax.DirectAdjoint()), has_aux=True)
    _, product, (times, rejected) = quick_jit(lambda w: jax.jvp(direct, (w,), (DIRECTION,), has_aux=True))(WEIGHTS)
    assert rejected > 0
    grid = jnp.concatenate([jnp.zeros(1), times[jnp.isfinite(times)]])
    frozen = quick_jit(jax.grad(lambda w: penalty(w, stepsize_controller=diffrax.StepTo(grid), dt0=None)[0]))
    assert_gradient_matches(
        lambda flat: np.sum(frozen(flat.reshape(2, 2)) * DIRECTION),
        np.asarray(WEIGHTS).ravel(),
        np.asarray(product).ravel(),
    )
    slope = lambda w: jax.jvp(forward, (w,), (DIRECTION,))[1]  # noqa: E731  # differentiated once more
    _, curvature = quick_jit(lambda w: jax.jvp(slope, (w,), (DIRECTION,)))(WEIGHTS)
    assert float(curvature) == pytest.approx(float(jnp.sum(product * DIRECTION)), rel=1e-9)


@jax.jit
def train_step(carry, epoch):
    weights, state = carry
    (value, (stats, _)), gradient = differentiated(loss)(weights, Y0, ANNEALED(epoch))
    updates, state = OPTIMIZER.update(gradient, state)
    return (optax.apply_updates(weights, updates), state), (value, stats.accepted)


def _trained():
    carry, seen = (WEIGHTS, OPTIMIZER.init(WEIGHTS)), []
    for epoch in range(EPOCHS):
        carry, found = train_step(carry, epoch)
        seen.append((*found, len(traced)))
    return carry, *(np.array(column) for column in zip(*seen, strict=True))


@pytest.mark.slow
@fault("the weight of a term is annealed", "nothing is compiled anew")
def test_annealed_training_compiles_once():
    _, values, accepted, traces = _trained()
    assert values[-1] < values[0]
    assert accepted[-1] < accepted[0]
    assert train_step._cache_size() == 1
    assert set(traces) == {traces[0]}


@pytest.mark.slow
@fault("the training loop is a `lax.scan`", "it takes the steps of the Python loop")
def test_scanned_training_is_the_python_loop():
    carry, values, accepted, _ = _trained()
    scanned, (scanned_values, scanned_accepted) = jax.jit(partial(jax.lax.scan, train_step))(
        (WEIGHTS, OPTIMIZER.init(WEIGHTS)), jnp.arange(EPOCHS)
    )
    assert np.allclose(scanned_values, values, rtol=1e-12, atol=0)
    assert np.array_equal(scanned_accepted, accepted)
    assert np.allclose(scanned[0], carry[0], rtol=1e-12, atol=0)


@pytest.fixture
def compilations():
    """What has been compiled, as it grows."""
    found = []

    def listen(event, _seconds, **_):
        if event == COMPILED:
            found.append(event)

    monitoring.register_event_duration_secs_listener(listen)
    yield found
    monitoring.unregister_event_duration_listener(listen)


@pytest.mark.slow
@fault("only the weight of a term changes, outside of `jit`", "nothing is compiled anew; another term is a new program")
def test_new_weight_compiles_nothing_and_a_new_term_does(compilations):
    def observed(term):
        before = len(traced), len(compilations)
        with tap.observe(term) as seen:
            solve(WEIGHTS)
        value = float(seen.penalty)
        return value, len(traced) - before[0], len(compilations) - before[1]

    first, *_ = observed(1.0 * tap.LocalError())
    for weight in (2.0, 3, 0.5):
        value, *work = observed(weight * tap.LocalError())
        assert value == pytest.approx(weight * first, rel=1e-12)
        assert work == [0, 0]
    _, *work = observed(tap.LocalError(reduce="mean"))
    assert min(work) > 0


@pytest.mark.slow
@fault("a random key is an argument, mapped over", "each key has its own path, penalty and steps")
def test_keys_are_mapped_over():
    def noisy(key):
        path = diffrax.VirtualBrownianTree(0.0, 1.0, 1e-2, (2,), key)
        noise = diffrax.ControlTerm(lambda t, y, weights: jnp.diag(0.3 * jnp.sin(y)), path)
        terms = diffrax.MultiTerm(diffrax.ODETerm(field), noise)
        controller = diffrax.PIDController(rtol=1e-2, atol=1e-2, pcoeff=0.1, icoeff=0.3)
        with tap.observe(tap.LocalError()) as seen:
            diffrax.diffeqsolve(terms, diffrax.Heun(), 0.0, 1.0, 0.5, Y0, WEIGHTS, stepsize_controller=controller)
        return seen.penalty, seen.stats.accepted

    keys = jax.random.split(jax.random.key(0), 3)
    batched = quick_jit(jax.vmap(noisy))(keys)
    assert len(np.unique(batched[1])) > 1
    assert_same(batched, quick_jit(partial(jax.lax.map, noisy))(keys))


@pytest.fixture
def nothing_old():
    """The garbage collector sees only what is made from here on: JAX asks it at every trace that it checks."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@fault("`jax.checking_leaks()`", "it finds nothing: no value of a trace is kept")
def test_no_value_of_a_trace_is_kept(nothing_old):
    def penalty(weights):
        # A new field each time, so that it is traced each time.
        with tap.observe(tap.LocalError(), trace=True) as seen:
            solve(weights, field=lambda *step: field(*step))
        return seen.penalty

    jax.eval_shape(jax.grad(penalty), WEIGHTS)  # the first trace of a bare `diffeqsolve` is a leak to JAX, too
    kept, before = [], len(traced)
    with jax.checking_leaks():
        jax.eval_shape(jax.grad(penalty), WEIGHTS)
        assert len(traced) > before
        with pytest.raises(Exception, match="Leaked trace"):
            jax.eval_shape(lambda weights: kept.append(weights), WEIGHTS)


@pytest.mark.slow
@fault("`jax.disable_jit()`", "value, derivative and counts are the same")
def test_nothing_depends_on_being_compiled():
    (value, aux), gradient = plain()
    forward = eqx.Partial(loss, adjoint=diffrax.ForwardMode())
    with jax.disable_jit():
        (found, found_aux), (tangent, _) = eqx.filter_jvp(forward, (WEIGHTS,), (jnp.asarray(DIRECTION),))
    assert_same((found, found_aux, tangent), (value, aux, np.sum(gradient * DIRECTION)))


@fault("`jax.debug_nans(True)`", "nothing is raised where the bare solve raises nothing")
def test_search_for_nans_finds_none_of_ours():
    def derivative(function):
        with jax.disable_jit(), jax.debug_nans(True):
            return jax.jvp(partial(function, adjoint=diffrax.ForwardMode()), (WEIGHTS,), (WEIGHTS,))

    with pytest.raises(FloatingPointError):
        derivative(lambda weights, **_: jnp.log(weights[0, 0]))
    derivative(lambda *args, **options: task(solve(*args, **options)))
    derivative(lambda *args, **options: loss(*args, **options)[0])


@pytest.mark.slow
@fault("double precision is switched off", "the solution is bitwise the bare one, penalty and gradient are float32")
def test_single_precision_is_observed_as_it_is():
    def narrow(function):
        with jax.enable_x64(False):
            return quick_jit(function)(WEIGHTS.astype(jnp.float32), Y0.astype(jnp.float32))

    (value, (stats, ys)), gradient = narrow(differentiated(loss))
    assert ys.dtype == value.dtype == gradient.dtype == jnp.float32
    assert np.array_equal(ys, narrow(lambda weights, y0: solve(weights, y0).ys))
    (expected, (expected_stats, _)), expected_gradient = plain()
    assert stats.accepted == expected_stats.accepted
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-3)
