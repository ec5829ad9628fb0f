"""`regularize` in JAX: inside and outside of its transformations, which the caller wrote without knowing of it."""

import pytest

jax = pytest.importorskip("jax")
diffrax = pytest.importorskip("diffrax")

import jax.numpy as jnp
import numpy as np

import solvertap as tap
from solvertap import errors
from tests.faults import fault
from tests.quick_jit import quick_jit

TERM = 2 * tap.LocalError() + 0.1 * tap.Stiffness(reduce="max")
Y0 = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))
W = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)))
ALONG = jnp.ones_like(W)


def _solve(w, y0, adjoint=None, **options):
    field = diffrax.ODETerm(lambda t, y, args: 4 * jnp.tanh(y @ w) - y)
    controller = diffrax.PIDController(rtol=1e-5, atol=1e-5)
    adjoint = diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint
    settings = {"stepsize_controller": controller, "adjoint": adjoint} | options
    return diffrax.diffeqsolve(field, diffrax.Tsit5(), 0.0, 1.0, 0.1, y0, **settings)


def _loss(w, y0=Y0, **options):
    return jnp.mean(_solve(w, y0, **options).ys ** 2)


def _penalty(w, y0=Y0):
    with tap.observe(TERM) as seen:
        _solve(w, y0)
    return seen.penalty


def _batched(each):
    return lambda w: jnp.mean(jax.vmap(lambda y0: each(w, y0))(Y0))


CASES = {
    "alone": (_loss, _penalty),
    "mapped": (_batched(_loss), _batched(_penalty)),
    "scanned": (
        lambda w: jax.lax.scan(lambda total, y0: (total + _loss(w, y0), None), 0.0, Y0[:2])[0],
        lambda w: _penalty(w, Y0[0]) + _penalty(w, Y0[1]),
    ),
    # Made anew each time: what JAX has traced before it does not trace again.
    "checkpointed": (lambda w: jax.checkpoint(lambda w: _loss(w))(w), _penalty),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_gradient_of_the_penalty_is_added_and_nothing_else_changes(case):
    loss, penalty = CASES[case]
    plain = jax.jit(jax.value_and_grad(loss))(W)
    with tap.regularize(TERM):
        regularized = jax.jit(jax.value_and_grad(loss))(W)
    wanted = quick_jit(jax.grad(penalty))(W)
    assert jnp.array_equal(regularized[0], plain[0])
    assert jnp.max(jnp.abs(wanted)) > 0.1
    np.testing.assert_allclose(regularized[1] - plain[1], wanted, rtol=1e-9, atol=1e-10)


@pytest.mark.slow
def test_gradient_of_each_sample_gets_its_own_penalty():
    with tap.regularize(TERM):
        regularized = quick_jit(jax.vmap(jax.grad(_loss), (None, 0)))(W, Y0)
        alone = quick_jit(jax.grad(_loss))(W, Y0[1])
    np.testing.assert_allclose(regularized[1], alone, rtol=1e-9, atol=1e-10)


@pytest.mark.slow
def test_forward_mode_is_untouched():
    def derivative(w):
        return jax.jvp(lambda w: _loss(w, adjoint=diffrax.ForwardMode()), (w,), (ALONG,))

    plain = derivative(W)
    with tap.regularize(TERM):
        regularized = derivative(W)
    assert jax.tree.map(jnp.array_equal, plain, regularized) == (True, True)


@pytest.mark.slow
def test_solves_are_recorded_when_they_run_with_numbers():
    records = []
    with tap.regularize(TERM, listener=records.append) as regularizer:
        step, evaluate = quick_jit(jax.grad(_batched(_loss))), quick_jit(_loss)
        for _ in range(3):
            step(W).block_until_ready()
        evaluate(W).block_until_ready()
        jax.effects_barrier()
    *training, evaluation = records
    assert [record.kind for record in records] == ["training"] * 3 + ["evaluation"]
    assert regularizer.k == 2  # the first of its kind begins the count
    solves = [_solve(W, y0).stats for y0 in Y0]
    assert training[0].stats.solves == len(Y0)
    assert training[0].stats.accepted == sum(int(stats["num_accepted_steps"]) for stats in solves)
    assert evaluation.stats.accepted == int(_solve(W, Y0).stats["num_accepted_steps"])
    np.testing.assert_allclose(training[0].penalty, quick_jit(_batched(_penalty))(W), rtol=1e-9)
    assert evaluation.penalty is None


@pytest.mark.slow
def test_backward_passes_are_counted_without_a_term():
    with tap.regularize() as regularizer:
        step = quick_jit(jax.grad(_batched(_loss)))
        for _ in range(3):
            step(W).block_until_ready()
        jax.effects_barrier()
    assert regularizer.k == 2


@pytest.mark.slow
def test_annealed_weight_compiles_once():
    traced, records = [], []

    def loss(w):
        traced.append(None)
        return _loss(w)

    with tap.regularize("100:1:2*local_error", listener=records.append):
        step = quick_jit(jax.grad(loss))
        gradients = [step(W).block_until_ready() for _ in range(3)]
        jax.effects_barrier()
    assert len(traced) == 1
    plain = quick_jit(jax.grad(_loss))(W)
    differences = [jnp.max(jnp.abs(gradient - plain)) for gradient in gradients]
    np.testing.assert_allclose(jnp.stack(differences) / differences[0], [1, 0.1, 0.01], rtol=1e-6)


@fault("a compiled program outlives the `regularize` it was compiled in", "it adds zero, and is not recorded")
@pytest.mark.slow
def test_program_that_outlives_it_adds_nothing_and_is_not_recorded():
    with tap.regularize(TERM) as regularizer:
        step = quick_jit(jax.grad(_loss))
        regularized = step(W).block_until_ready()
        jax.effects_barrier()
        seen = regularizer.stats["training"]
    after = step(W).block_until_ready()
    jax.effects_barrier()
    assert regularizer.stats["training"] == seen
    assert jnp.max(jnp.abs(regularized - after)) > 0.1
    np.testing.assert_allclose(after, quick_jit(jax.grad(_loss))(W), rtol=1e-9, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("term", ["0*local_error", None])
def test_weight_zero_changes_no_bit(term):
    plain = jax.jit(jax.value_and_grad(_loss))(W)
    with tap.regularize(term):
        regularized = jax.jit(jax.value_and_grad(_loss))(W)
    assert jax.tree.map(jnp.array_equal, plain, regularized) == (True, True)


@pytest.mark.slow
def test_continuous_adjoint_goes_without_and_says_why():
    def loss(w, y0):
        field = diffrax.ODETerm(lambda t, y, w: 4 * jnp.tanh(y @ w) - y)
        controller = diffrax.PIDController(rtol=1e-5, atol=1e-5)
        adjoint = diffrax.BacksolveAdjoint()
        settings = {"args": w, "stepsize_controller": controller, "adjoint": adjoint}
        return jnp.sum(diffrax.diffeqsolve(field, diffrax.Tsit5(), 0.0, 1.0, 0.1, y0, **settings).ys ** 2)

    plain = jax.jit(jax.grad(loss))(W, Y0)
    with tap.regularize(TERM) as regularizer:
        assert jnp.array_equal(jax.jit(jax.grad(loss))(W, Y0), plain)
    (reason,) = regularizer.left_out
    assert "BacksolveAdjoint" in reason


def test_solver_without_an_estimate_goes_without_and_says_why():
    def loss(w):
        field = diffrax.ODETerm(lambda t, y, args: -y @ w)
        return jnp.sum(diffrax.diffeqsolve(field, diffrax.Euler(), 0.0, 1.0, 0.25, Y0).ys)

    plain = jax.grad(loss)(W)
    with tap.regularize(tap.LocalError()) as regularizer:
        regularized = jax.grad(loss)(W)
    np.testing.assert_allclose(regularized, plain, rtol=1e-12, atol=1e-13)
    (reason,) = regularizer.left_out
    assert "estimates no error" in reason
    with pytest.raises(errors.PenaltyRefusedError), tap.observe(tap.LocalError()):
        loss(W)
