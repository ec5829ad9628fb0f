"""The adapter of `jax.experimental.ode`: what its conformance (tests/test_conformance.py) does not look at."""

from functools import partial

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp
from jax.experimental.ode import odeint, runge_kutta_step  # early: before anything is attached
from jax.flatten_util import ravel_pytree

from solvertap import LocalError, LocalSample, Stiffness, detach, observe, regularize
from solvertap.errors import ContinuousAdjointError, InvalidInputError, PenaltyRefusedError

W = jnp.array([[-1.0, 2.0], [-2.0, 0.3]])
Y0 = jnp.array([1.0, -0.5])
TS = jnp.array([0.0, 0.4, 1.3])
TOLERANCES = {"rtol": 1e-5, "atol": 1e-5}
SAMPLE = LocalSample(LocalError(), draw="steps")


def field(y, t, w):
    return jnp.tanh(w @ y) + 20 * jnp.abs(t - 0.7)


def solve(w, y0=Y0, **options):
    return odeint(field, y0, TS, w, **TOLERANCES, **options)


def loss(w):
    return jnp.sum(solve(w) ** 2)


def third(n):
    return 0.3


def test_a_program_compiled_bare_hides_nothing_and_a_tapped_one_is_not_reused_bare():
    detach()
    bare = solve(W)
    with observe(trace=100) as seen:
        tapped = solve(W)
    assert seen.stats.accepted > 3
    assert seen.stats.rejected > 0
    assert len(seen.trace.numpy()["h"]) == seen.stats.accepted + seen.stats.rejected
    np.testing.assert_array_equal(tapped, bare)
    np.testing.assert_array_equal(solve(W), bare)
    with observe(trace=100) as again:  # from the cache
        solve(2 * W)
    assert float(again.trace.numpy()["h"][0]) != float(seen.trace.numpy()["h"][0])


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_of_mapped_solves_are_bitwise_the_bare_ones(compiled):
    ws = jnp.stack([W, 0.5 * W])

    def observed(w):
        with observe(trace=100) as seen:
            found = loss(w)
        return found, seen.stats

    def gradient(function, **options):
        each = jax.vmap(jax.grad(function, **options))
        return (jax.jit(each) if compiled else each)(ws)

    found, stats = gradient(observed, has_aux=True)
    np.testing.assert_array_equal(found, gradient(loss))
    assert stats.accepted.shape == (2,)
    assert stats.accepted[0] != stats.accepted[1]


def test_a_function_traced_before_it_is_differentiated_keeps_its_gradient_bitwise():
    def observed(w):
        with observe() as seen:
            found = loss(w)
        return found, seen.stats

    # `grad` of a jitted function asks for the derivative when the solve is long over.
    found, _ = jax.grad(jax.jit(observed), has_aux=True)(W)
    np.testing.assert_array_equal(found, jax.grad(jax.jit(loss))(W))


def test_the_backward_solve_is_not_counted():
    with observe() as forward:
        solve(W)
    gradients = []

    def total(w):
        with observe() as inside:
            found = loss(w)
        return found, inside.stats

    gradient, stats = jax.grad(total, has_aux=True)(W)
    assert tuple(map(int, stats[:4])) == tuple(map(int, forward.stats[:4]))
    with observe() as around:  # the backward pass runs inside the block
        gradients.append(jax.grad(loss)(W))
    assert len(around.solves) <= 1
    np.testing.assert_array_equal(gradients[0], gradient)


def test_a_field_that_solves_is_one_solve_with_one_count():
    def outer(y, t, w):
        return field(y, t, w) + 0.1 * odeint(field, y, jnp.array([0.0, 0.1]), w)[-1]

    bare = odeint(outer, Y0, TS, W, **TOLERANCES)
    with observe() as seen:
        found = odeint(outer, Y0, TS, W, **TOLERANCES)
    assert len(seen.solves) == 1
    stats = seen.stats
    assert stats.evaluations == 2 + 6 * (stats.accepted + stats.rejected)
    np.testing.assert_array_equal(found, bare)


def test_a_sample_is_measured_on_the_step_that_is_drawn_with_its_gradient():
    def penalty(w):
        with observe(SAMPLE, trace=100, key=third) as seen:
            solve(w)
        return seen.penalty, (seen.penalty, seen.trace)

    gradient, (value, trace) = jax.grad(penalty, has_aux=True)(W)
    rows = trace.numpy()
    t0, h = (rows[name][rows["accepted"]] for name in ("t", "h"))
    kept = 0
    for n in range(1, len(h)):  # Chao's rule, each step as likely
        kept = n if 0.3 * (n + 1) <= 1 else kept
    advance = jax.jit(lambda y, t, h: runge_kutta_step(lambda y, t: field(y, t, W), y, field(y, t, W), t, h)[0])
    y = Y0
    for t, size in zip(t0[:kept], h[:kept], strict=True):
        y = advance(y, t, size)

    @jax.jit
    def replayed(w):
        t, size = t0[kept], jnp.asarray(h[kept])
        y1, _, error, _ = runge_kutta_step(lambda y, t: field(y, t, w), y, field(y, t, w), t, size)
        scale = 1e-5 + 1e-5 * jnp.maximum(abs(y), abs(y1))
        return jnp.sqrt(jnp.mean((error / scale) ** 2)) * (size if SAMPLE.term.weigh_by_step else 1)

    np.testing.assert_allclose(value, replayed(W), rtol=1e-9)
    quotients = np.zeros((2, 2))
    for i in np.ndindex(2, 2):
        change = jnp.zeros((2, 2)).at[i].set(1e-5)
        quotients[i] = (replayed(W + change) - replayed(W - change)) / 2e-5
    np.testing.assert_allclose(gradient, quotients, rtol=0, atol=1e-6 * np.linalg.norm(quotients))


def test_a_state_may_be_a_pytree_and_its_samples_have_its_shapes():
    def tree_field(y, t, w):
        return {"a": -y["b"][0] * w, "b": jnp.cos(y["a"])[None] * w}

    y0 = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([[0.5, -0.5]])}
    bare = odeint(tree_field, y0, TS, 1.2, **TOLERANCES)
    with observe(SAMPLE, key=jax.random.key(0)) as seen:
        found = odeint(tree_field, y0, TS, 1.2, **TOLERANCES)
    jax.tree.map(np.testing.assert_array_equal, found, bare)
    assert seen.penalty > 0


def test_keys_of_a_cached_program_are_its_arguments():
    def drawn(key):
        with observe(LocalSample(LocalError(), draw="uniform"), key=key) as seen:
            solve(W)
        return float(seen.penalty)

    values = [drawn(jax.random.key(i)) for i in range(3)]
    assert len(set(values)) == 3
    assert drawn(jax.random.key(0)) == values[0]


def test_a_trace_without_a_bound_is_refused_with_the_remedy():
    with pytest.raises(InvalidInputError, match=r"observe\(trace=1000\)"), observe(trace=True):
        solve(W)
    with observe(trace=True) as seen:
        solve(W, mxstep=50)
    assert len(seen.trace.t) == 100  # for each of the two output times


def test_a_full_term_is_refused_with_the_remedy():
    with pytest.raises(PenaltyRefusedError, match=r"`replay=True` or put `LocalSample`"), observe(LocalError()):
        solve(W)


def test_regularize_adds_the_gradient_of_a_sample_and_records_one_solve_not_its_backward_one():
    records = []
    bare, gradient = jax.value_and_grad(loss)(W)
    with regularize(5.0 * SAMPLE, listener=records.append) as regularizer:
        found, changed = jax.value_and_grad(loss)(W)
        jax.effects_barrier()
    assert found == bare
    assert not np.allclose(changed, gradient)
    assert np.all(np.isfinite(changed))
    assert not list(regularizer.left_out)
    assert [(record.kind, record.stats.solves) for record in records] == [("training", 1)]


@pytest.mark.parametrize("times", [(0.0, 1.3), (0.0, 0.4, 1.3)])
def test_aligned_steps_are_those_of_diffrax_and_the_last_one_ends_at_the_last_time(times):
    diffrax = pytest.importorskip("diffrax")

    def traced(solve):
        with observe(align=True, trace=100) as seen:
            solve()
        return seen.stats, seen.trace.numpy()

    stats, trace = traced(lambda: odeint(field, Y0, jnp.array(times), W, **TOLERANCES))
    term, controller = diffrax.ODETerm(lambda t, y, w: field(y, t, w)), diffrax.PIDController(**TOLERANCES)
    options = {"stepsize_controller": controller, "max_steps": 100}
    _, wanted = traced(lambda: diffrax.diffeqsolve(term, diffrax.Dopri5(), 0.0, 1.3, None, Y0, W, **options))
    assert stats.rejected > 0
    assert stats.evaluations == 2 + 6 * len(trace["h"])
    np.testing.assert_array_equal(trace["accepted"], wanted["accepted"])
    for name in ("t", "h", "local_error", "stiffness"):
        np.testing.assert_allclose(trace[name], wanted[name], rtol=1e-7, atol=1e-12)
    assert trace["t"][-1] + trace["h"][-1] == 1.3


def test_what_odeint_refuses_it_refuses_itself():
    for y0, t in ((jnp.array([1, 2]), TS), (Y0, jnp.array([0, 1]))):
        with pytest.raises(TypeError) as bare:
            odeint(field, y0, t, W)
        with pytest.raises(TypeError) as found, observe() as seen:
            odeint(field, y0, t, W)
        assert str(found.value) == str(bare.value)
        assert not seen.solves


# --- Full terms, by replay --------------------------------------------------------------------------------------------
TERM = LocalError() + 0.1 * Stiffness(reduce="mean")


def _penalty(w, y0=Y0):
    with observe(TERM, replay=True) as seen:
        y = solve(w, y0, mxstep=50)
    return seen.penalty, (y, seen.stats)


def test_replayed_penalty_of_mapped_and_compiled_solves_is_that_of_each_and_reaches_the_start():
    ws = jnp.stack([W, 0.5 * W])
    gradient = jax.value_and_grad(_penalty, argnums=(0, 1), has_aux=True)
    (together, (_, stats)), (by_w, by_y0) = jax.jit(jax.vmap(gradient, in_axes=(0, None)))(ws, Y0)
    assert stats.accepted[0] != stats.accepted[1]
    for i, w in enumerate(ws):
        (alone, (y, counts)), (dw, dy0) = jax.jit(gradient)(w, Y0)
        assert counts.rejected > 0
        np.testing.assert_allclose(together[i], alone, rtol=1e-9)
        np.testing.assert_allclose(by_w[i], dw, rtol=1e-7)
        np.testing.assert_allclose(by_y0[i], dy0, rtol=1e-7)
        np.testing.assert_array_equal(y, jax.jit(solve)(w, Y0))
        assert jnp.linalg.norm(dy0) > 0


def test_replay_without_a_bound_on_the_steps_is_refused_with_the_remedy_and_leaves_a_sample_alone():
    with observe(TERM, replay=True) as seen:
        with pytest.raises(ContinuousAdjointError, match=r"Pass `mxstep=1000`.*`LocalSample`"):
            solve(W)
        assert not seen.solves
        solve(W, mxstep=50)
    assert float(seen.penalty) > 0
    both = LocalError(replay=True) + SAMPLE
    gradients = []
    for term in (both, SAMPLE):
        with regularize(term) as regularizer:
            gradients.append(jax.grad(loss)(W))
        assert any("mxstep=1000" in reason for reason in regularizer.left_out) == (term is both)
    np.testing.assert_array_equal(*gradients)
    assert not np.array_equal(gradients[0], jax.grad(loss)(W))


def test_regularize_adds_the_replayed_penalty():
    def bounded(w):
        return jnp.sum(solve(w, mxstep=50) ** 2)

    bare, penalty = jax.jit(jax.grad(bounded))(W), jax.jit(jax.grad(lambda w: _penalty(w)[0]))(W)
    with regularize("local_error:replay + 0.1*stiffness:mean:replay"):
        found = jax.jit(jax.grad(lambda w: bounded(w)))(W)  # another function: nothing is compiled of it yet
    np.testing.assert_allclose(found, bare + penalty, rtol=1e-9)


def parts_field(y, t, w):
    return {"a": w @ y["a"] + 20 * jnp.abs(t - 0.7), "b": jnp.tanh(y["b"] * y["a"][0])[::-1]}


TREE = {"a": Y0, "b": jnp.array([[0.3, 0.1, -0.2], [1.0, 0.0, 0.4]])}


def replayed_penalty(w, y0):
    """The penalty by replay, and what was seen beside it; three output times, a state of several parts."""
    term = 0.5 * LocalError(weigh_by_step=True) + 0.1 * Stiffness()
    with observe(term, replay=True, trace=True) as seen:
        ys = odeint(parts_field, y0, TS, w, **TOLERANCES, mxstep=60)
    return seen.penalty, (seen.trace, seen.stats, ys)


def steps_again(w, y0, trace):
    """The weighted penalty over the accepted steps of a trace, in plain JAX."""
    y, unravel = ravel_pytree(y0)

    def flat_field(y, t):
        return ravel_pytree(parts_field(unravel(y), t, w))[0]

    error = stiff = 0.0
    rows = trace.numpy()
    f = flat_field(y, TS[0])
    for t, h, kept in zip(rows["t"], rows["h"], rows["accepted"], strict=True):
        if kept:
            y1, f1, y_error, k = runge_kutta_step(flat_field, y, f, jnp.asarray(t), jnp.asarray(h))
            before = y + h * (k[:5].T @ jnp.array([9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656]))
            scale = 1e-5 + 1e-5 * jnp.maximum(abs(y), abs(y1))
            error += jnp.sqrt(jnp.mean((y_error / scale) ** 2)) * h
            stiff += jnp.linalg.norm(k[6] - k[5]) / jnp.linalg.norm(y1 - before)
            y, f = y1, f1
    return 0.5 * error + 0.1 * stiff


def test_replay_of_a_pytree_over_three_times_has_the_gradient_of_the_accepted_steps_by_field_and_start():
    gradient = jax.jit(jax.value_and_grad(replayed_penalty, argnums=(0, 1), has_aux=True))
    (value, (trace, stats, ys)), (by_w, by_y0) = gradient(W, TREE)
    assert stats.rejected > 0
    assert stats.evaluations == 2 + 6 * (stats.accepted + stats.rejected)
    assert stats.measuring == 1 + 6 * stats.accepted
    penalty = jax.jit(partial(steps_again, trace=trace))
    np.testing.assert_allclose(value, penalty(W, TREE), rtol=1e-9)
    inputs, unravel = ravel_pytree((W, TREE))
    quotients = np.zeros(inputs.size)
    for i in range(inputs.size):
        change = jnp.zeros_like(inputs).at[i].set(1e-5)
        quotients[i] = (penalty(*unravel(inputs + change)) - penalty(*unravel(inputs - change))) / 2e-5
    found, _ = ravel_pytree((by_w, by_y0))
    np.testing.assert_allclose(found, quotients, rtol=0, atol=1e-6 * np.linalg.norm(quotients))
    bare = jax.jit(lambda w, y0: odeint(parts_field, y0, TS, w, **TOLERANCES, mxstep=60))(W, TREE)
    jax.tree.map(np.testing.assert_array_equal, ys, bare)
