"""Under `regularize` in JAX the backward pass that trains carries the penalty; others stay the program's own."""

from functools import partial

import pytest

jax = pytest.importorskip("jax")
diffrax = pytest.importorskip("diffrax")

import jax.numpy as jnp
import numpy as np

import solvertap as tap
from solvertap_diffrax._diffeqsolve import _is_by_start_alone
from tests.faults import fault
from tests.quick_jit import quick_jit

TERM = 2 * tap.LocalError() + 0.1 * tap.LocalError(reduce="max", name="peak")
Y0 = jnp.asarray(np.random.default_rng(1).normal(size=(2, 2)))
W = jnp.asarray(np.random.default_rng(0).normal(size=(2, 2)))
ALONG = jnp.ones_like(W)


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


def _weighed(function, *arguments, **settings):
    """How often the program that JAX makes of a function asks for the weights of a penalty; made anew each time."""
    program, _ = _regularized(lambda: str(jax.make_jaxpr(lambda *given: function(*given))(*arguments)), **settings)
    return program.count("solvertap_weigh[")


def _gradient_in_the_loss(w):
    g = jax.grad(lambda y0: jnp.sum(_twice(w, y0) ** 2))(Y0)
    return jnp.mean((jnp.linalg.norm(g, axis=1) - 1) ** 2)


def _compiled_gradient_in_the_loss(w):
    return jnp.mean(jax.jit(jax.grad(lambda y0: jnp.sum(_twice(w, y0))))(Y0) ** 2)


def _log_determinant(w):
    return jnp.linalg.slogdet(jax.jacrev(lambda y: _solve(w, y))(Y0[0]))[1]


def _jacobian_by_the_weights(w):
    return jax.jacrev(lambda w: _solve(w, Y0[0]))(w)


def _jacobians_of_a_batch(w):
    return jax.vmap(lambda y0: jax.jacrev(lambda w: _solve(w, y0))(w))(Y0)


def _by_the_input(w):
    return jax.grad(lambda y0: _loss(w, y0))(Y0)


def _by_each_input(w):
    return jax.jit(jax.vmap(jax.grad(lambda y0: _loss(w, y0))))(Y0)


def _hessian_vector_product(w):
    return jax.jvp(jax.grad(lambda w: _loss(w, Y0, _twice)), (w,), (ALONG,))[1]


def _inner_step(w):
    return w - 0.1 * jax.lax.stop_gradient(jax.grad(_loss)(w))


OTHERS = [
    _gradient_in_the_loss,
    _compiled_gradient_in_the_loss,
    _log_determinant,
    _jacobian_by_the_weights,
    _jacobians_of_a_batch,
    _by_the_input,
    _by_each_input,
    _hessian_vector_product,
]
TRAINING = [
    jax.grad(_loss),
    jax.jit(jax.grad(_loss)),
    jax.value_and_grad(lambda w: jnp.mean(jax.vmap(lambda y0: _loss(w, y0))(Y0))),
    jax.vmap(jax.grad(_loss), (None, 0)),
    jax.grad(lambda w: jax.lax.scan(lambda total, y0: (total + _loss(w, y0), None), 0.0, Y0)[0]),
    jax.grad(lambda w: jax.checkpoint(lambda w: _loss(w))(w)),
    jax.grad(lambda w: _loss(w, jnp.tanh(Y0 @ w))),  # the start depends on it too
    jax.grad(lambda w: _loss(_inner_step(w))),  # the outer pass
    jax.grad(_gradient_in_the_loss),
    jax.grad(lambda w: jnp.vdot(jax.grad(lambda w: _loss(w, Y0, _twice))(w), ALONG)),
]


@fault(
    "under `regularize` JAX differentiates something else than the training loss: a gradient in a loss, a Jacobian, an "
    "input, a Hessian-vector product",
    "it is the program's own: only the pass that trains carries the penalty",
)
@pytest.mark.parametrize("of", OTHERS)
def test_what_is_differentiated_and_not_trained_carries_nothing(of):
    assert _weighed(of, W) == 0


@pytest.mark.parametrize("of", [_by_the_input, _hessian_vector_product])
def test_every_pass_carries_the_penalty_where_the_caller_says_so(of):
    assert _weighed(of, W, passes="all") > 0


@pytest.mark.parametrize("number", range(len(TRAINING)))
def test_pass_that_trains_carries_the_penalty_once(number):
    arguments = (W, Y0) if number == 3 else (W,)
    assert _weighed(TRAINING[number], *arguments) == 1


@pytest.mark.slow
def test_training_on_a_gradient_in_the_loss_adds_the_gradient_of_the_penalty():
    loss, plain = quick_jit(jax.value_and_grad(_gradient_in_the_loss))(W)
    (found_loss, found), regularizer = _regularized(
        quick_jit(jax.value_and_grad(lambda w: _gradient_in_the_loss(w))), W
    )
    wanted = quick_jit(jax.grad(lambda w: _penalty(w, Y0, _twice)))(W)
    assert jnp.max(jnp.abs(wanted)) > 0.1
    np.testing.assert_allclose(found_loss, loss, rtol=1e-12)
    np.testing.assert_allclose(found - plain, wanted, rtol=1e-8, atol=1e-9)
    assert regularizer.backward_passes["carried"] == 1


def test_two_losses_on_one_solution_carry_the_penalty_once():
    """Where nothing is compiled; a pass that is compiled by itself cannot know of another."""

    def passes():
        y, pull = jax.vjp(_solve, W)
        return pull(jnp.ones_like(y))[0], pull(2 * y)[0]

    plain, (found, regularizer) = passes(), _regularized(passes)
    assert jnp.max(jnp.abs(found[0] - plain[0])) > 0.1
    np.testing.assert_allclose(found[1], plain[1], rtol=1e-12, atol=1e-13)
    assert regularizer.backward_passes["carried"] == 1


@pytest.mark.slow
def test_nested_batches_add_their_mean_or_their_sum():
    y0s, ws = jnp.stack([Y0, 2 * Y0, Y0 - 1]), jnp.stack([W, -W])

    def over(each):
        mapped = lambda w: jax.vmap(lambda a: jax.vmap(lambda y0: each(a * w, y0))(y0s))(ws)  # noqa: E731  # of both
        return quick_jit(jax.grad(lambda w: jnp.mean(mapped(w))))

    plain, wanted = over(_loss)(W), over(_penalty)(W)
    for batch, factor in (("mean", 1), ("sum", 6)):
        found, _ = _regularized(over(_loss), W, batch=batch)
        np.testing.assert_allclose(found - plain, factor * wanted, rtol=1e-8, atol=1e-9)


def test_differentiation_by_the_start_alone_is_told_whatever_the_field_is_made_of():
    told = []

    def told_of(y0, **arguments):
        told.append(_is_by_start_alone({"y0": y0, **arguments}))
        return jnp.sum(y0)

    class Model:
        def __init__(self, w):
            self.parts = [{"w": w}]

        def __call__(self, t, y):
            return self.parts[0]["w"] * y

    def fields(w):
        yield diffrax.ODETerm(lambda t, y, args: w * y)
        yield diffrax.ODETerm(partial(lambda w, t, y, args: w * y, w))
        yield Model(w)
        yield Model(w).__call__
        yield jax.jit(lambda t, y: w * y)
        yield jax.tree_util.Partial(lambda w: w, w)
        yield lambda t, y, w=w: w * y
        yield lambda t, y, *, w=w: w * y

    for field in fields(W):
        jax.grad(lambda y0, field=field: told_of(y0, terms=field))(Y0)
        jax.jit(jax.vmap(jax.grad(lambda y0, field=field: told_of(y0, terms=field))))(Y0)
        jax.grad(lambda y0, field=field: jnp.sum(jax.vmap(lambda y: told_of(y, terms=field))(y0)))(Y0)
    assert told == [True] * 24
    told.clear()
    for number in range(8):
        jax.grad(lambda w, number=number: told_of(Y0 * w, terms=list(fields(w))[number]))(W)
    jax.grad(lambda w: told_of(Y0 * w, args={"w": w}))(W)  # as an argument
    jax.grad(lambda w: told_of(Y0, args=w))(W)  # not by the start
    jax.grad(lambda w: jax.jit(told_of)(Y0 * w))(W)  # staged: nobody can tell
    jax.grad(lambda w: told_of(Y0 * w, terms=iter(())))(W)  # closed to every look
    assert told == [False] * 12
