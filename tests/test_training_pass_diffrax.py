"""Under `regularize` in JAX the backward pass that trains carries the penalty; others stay the program's own."""

import pytest

jax = pytest.importorskip("jax")
diffrax = pytest.importorskip("diffrax")

import jax.numpy as jnp
import numpy as np

import solvertap as tap
from tests.faults import fault

TERM = 2 * tap.LocalError() + 0.1 * tap.LocalError(reduce="max", name="peak")
Y0 = jnp.asarray(np.random.default_rng(1).normal(size=(2, 2)))
W = jnp.asarray(np.random.default_rng(0).normal(size=(2, 2)))
ALONG = jnp.ones_like(W)
pytestmark = pytest.mark.slow


def _solve(w, y0=Y0, adjoint=None):
    field = diffrax.ODETerm(lambda t, y, args: 3 * jnp.tanh(y @ w) - y)
    controller = diffrax.PIDController(rtol=1e-3, atol=1e-3)
    settings = {"stepsize_controller": controller, "max_steps": 16}
    adjoint = diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint
    return diffrax.diffeqsolve(field, diffrax.Bosh3(), 0.0, 1.0, 0.2, y0, adjoint=adjoint, **settings).ys[-1]


def _twice(w, y0=Y0):
    return _solve(w, y0, diffrax.DirectAdjoint())


def _loss(w, y0=Y0, solve=_solve):
    return jnp.mean(solve(w, y0) ** 2)


def _penalty(w, y0=Y0, solve=_solve):
    with tap.observe(TERM) as seen:
        solve(w, y0)
    return seen.penalty


def _regularized(function, *arguments, **settings):
    with tap.regularize(TERM, **settings) as regularizer:
        found = function(*arguments)
        jax.effects_barrier()
    return found, regularizer


def _gradient_in_the_loss(w):
    g = jax.grad(lambda y0: jnp.sum(_twice(w, y0) ** 2))(Y0)
    return jnp.mean((jnp.linalg.norm(g, axis=1) - 1) ** 2)


def _linear_gradient_in_the_loss(w):
    return jnp.mean(jax.jit(jax.grad(lambda y0: jnp.sum(_twice(w, y0))))(Y0) ** 2)


def _log_determinant(w):
    return jnp.linalg.slogdet(jax.jacrev(lambda y: _solve(w, y))(Y0[0]))[1]


def _by_the_input(w):
    return jax.grad(lambda y0: _loss(w, y0))(Y0)


def _by_each_input(w):
    return jax.jit(jax.vmap(jax.grad(lambda y0: _loss(w, y0))))(Y0)


def _hessian_vector_product(w):
    return jax.jvp(jax.grad(lambda w: _loss(w, Y0, _twice)), (w,), (ALONG,))[1]


def _curvature(w):
    return jax.grad(lambda w: jnp.vdot(jax.grad(lambda w: _loss(w, Y0, _twice))(w), ALONG))(w)


OTHERS = [
    _gradient_in_the_loss,
    _linear_gradient_in_the_loss,
    _log_determinant,
    _by_the_input,
    _by_each_input,
    _hessian_vector_product,
]


@fault(
    "under `regularize` JAX differentiates something else than the training loss: a gradient in a loss, a Jacobian, an "
    "input, a Hessian-vector product",
    "it is the program's own, bitwise where it is compiled alike: only the pass that trains carries the penalty",
)
@pytest.mark.parametrize("of", OTHERS)
def test_what_is_differentiated_and_not_trained_stays_the_programs_own(of):
    plain = of(W)
    found, regularizer = _regularized(of, W)
    np.testing.assert_allclose(found, plain, rtol=1e-12, atol=1e-13)
    assert regularizer.backward_passes["carried"] == 0


def test_pass_that_trains_on_a_gradient_in_the_loss_carries_the_penalty_once():
    plain = jax.grad(_gradient_in_the_loss)(W)
    found, regularizer = _regularized(jax.grad(_gradient_in_the_loss), W)
    wanted = jax.grad(lambda w: _penalty(w, Y0, _twice))(W)
    assert jnp.max(jnp.abs(wanted)) > 0.1
    np.testing.assert_allclose(found - plain, wanted, rtol=1e-8, atol=1e-9)
    assert regularizer.backward_passes["carried"] == 1


def test_inner_loop_is_its_own_and_the_outer_pass_carries():
    def adapted(w):
        g = jax.lax.stop_gradient(jax.grad(_loss)(w))
        return w - 0.1 * g

    def outer(w):
        return _loss(adapted(w))

    plain = jax.jit(jax.grad(outer))(W)
    found, regularizer = _regularized(jax.jit(jax.grad(outer)), W)
    np.testing.assert_allclose(found - plain, jax.grad(_penalty)(adapted(W)), rtol=1e-8, atol=1e-9)
    assert regularizer.backward_passes["carried"] == 1


def test_two_losses_on_one_solution_carry_the_penalty_once():
    def gradients():
        y, pull = jax.vjp(_solve, W)
        return pull(jnp.ones_like(y))[0] + pull(2 * y)[0]

    plain = gradients()
    found, _ = _regularized(gradients)
    np.testing.assert_allclose(found - plain, jax.grad(_penalty)(W), rtol=1e-8, atol=1e-9)


def test_every_pass_carries_where_the_caller_says_so():
    plain = _by_the_input(W)
    found, regularizer = _regularized(_by_the_input, W, passes="all")
    np.testing.assert_allclose(found - plain, jax.grad(lambda y0: _penalty(W, y0))(Y0), rtol=1e-8, atol=1e-9)
    assert regularizer.backward_passes["carried"] == 1


@pytest.mark.parametrize(("batch", "total"), [("mean", jnp.mean), ("sum", jnp.sum)])
def test_nested_batches_add_their_mean_or_their_sum(batch, total):
    y0s, ws = jnp.stack([Y0, 2 * Y0, Y0 - 1]), jnp.stack([W, -W])

    def over(each):
        return lambda w: total(jax.vmap(lambda a: jax.vmap(lambda y0: each(a * w, y0))(y0s))(ws))

    plain = jax.jit(jax.grad(over(_loss)))(W)
    found, _ = _regularized(jax.jit(jax.grad(over(_loss))), W, batch=batch)
    np.testing.assert_allclose(found - plain, jax.jit(jax.grad(over(_penalty)))(W), rtol=1e-8, atol=1e-9)
