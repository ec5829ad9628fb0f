"""Replay under diffrax's `BacksolveAdjoint`: the oracle is the solve that is differentiated through its steps."""

from functools import partial

import pytest

jax = pytest.importorskip("jax")
diffrax = pytest.importorskip("diffrax")

import jax.numpy as jnp
import lineax
import numpy as np

import solvertap as tap
from solvertap import errors
from solvertap_jax._scan import replayed
from tests.faults import fault
from tests.quick_jit import quick_jit

VALUE, GRADIENT = 1e-12, 1e-9  # the promise, relative
DIRECT, BACKSOLVE = diffrax.RecursiveCheckpointAdjoint(), diffrax.BacksolveAdjoint()
W = np.random.default_rng(0).normal(size=(3, 3))
START = np.linspace(0.1, 0.8, 6).reshape(2, 3)


def _energy(step):
    return (step.y1**2).sum() * step.h


ENERGY = tap.term(_energy, name="energy")
ALL = (
    tap.LocalError()
    + 0.3 * tap.Stiffness(reduce="mean")
    + 0.1 * tap.SquaredLocalError(reduce="max")
    + tap.KineticEnergy()
    + tap.SlopeChange()
    + ENERGY
)
SOME = tap.LocalError() + tap.Stiffness()
DOUBLED = tap.LocalError(estimate="doubling", scale="raw")


def _terms(noisy):
    ode = diffrax.ODETerm(lambda t, y, w: 4 * jnp.tanh(y @ w) + jnp.sin(20 * t))
    if not noisy:
        return ode
    path = diffrax.VirtualBrownianTree(0.0, 1.0, 1e-4, (2, 3), jax.random.key(2))
    noise = diffrax.ControlTerm(lambda t, y, w: lineax.DiagonalLinearOperator(0.3 * jnp.sin(y @ w.T)), path)
    return diffrax.MultiTerm(ode, noise)


def _solve(w, x, adjoint, *, solver=None, t1=1.0, tolerance=1e-4, noisy=False, **options):
    controller = diffrax.PIDController(rtol=tolerance, atol=tolerance)
    options = {"stepsize_controller": controller, "adjoint": adjoint, "max_steps": 400} | options
    solver = diffrax.Tsit5() if solver is None else solver
    first = 0.1 if t1 > 0 else -0.1
    return diffrax.diffeqsolve(_terms(noisy), solver, 0.0, t1, first, jnp.sin(x), w, **options)


def _penalty(w, x, adjoint, term, *, replay=False, **options):
    with tap.observe(term, replay=replay) as seen:
        solution = _solve(w, x, adjoint, **options)
    return seen.penalty, (seen.values, seen.stats, solution.ys)


def _loss(w, x, **options):
    ys = _solve(w, x, BACKSOLVE, **options).ys
    return jnp.sum(ys**2), ys


def _both_gradients(w, x, term, **options):
    """The gradients of the loss and of the penalty of one observed solve, and what was seen."""

    def both(w, x):
        penalty, seen = _penalty(w, x, BACKSOLVE, term, replay=True, **options)
        return (jnp.sum(seen[2] ** 2), penalty), seen

    (loss, penalty), back, seen = jax.vjp(both, w, x, has_aux=True)
    one, zero = jnp.ones_like(loss), jnp.zeros_like(penalty)
    return back((one, zero)), back((zero, one)), seen


JUMPS = diffrax.ClipStepSizeController(diffrax.PIDController(rtol=1e-4, atol=1e-4), jump_ts=np.array([0.3, 0.62]))
CONSTANT = {"stepsize_controller": diffrax.ConstantStepSize()}
CASES = {
    "Tsit5": ({}, ALL, True),
    "several times, jumps": (
        {"saveat": diffrax.SaveAt(ts=np.linspace(0, 1, 5)), "stepsize_controller": JUMPS},
        ENERGY,
        None,
    ),
    "implicit, backwards": ({"solver": diffrax.Kvaerno3(), "tolerance": 1e-3, "t1": -1.0}, tap.LocalError(), None),
    "multistep": ({"solver": diffrax.LeapfrogMidpoint(), **CONSTANT}, ENERGY, None),
    "doubled": ({"solver": diffrax.Euler(), **CONSTANT}, DOUBLED, None),
    "noisy": ({"solver": diffrax.ReversibleHeun(), "noisy": True, "tolerance": 1e-2}, SOME, True),
}


@pytest.mark.parametrize("name", CASES)
@fault(
    "a full term under `BacksolveAdjoint` with `replay=True`",
    "value and gradient are those of the solve that is differentiated; solution and the adjoint's gradient are bitwise "
    "the bare ones",
)
def test_replay_gives_the_penalty_of_the_solve_that_is_differentiated_and_leaves_the_adjoint_alone(name):
    options, term, rejects = CASES[name]
    direct = jax.value_and_grad(partial(_penalty, adjoint=DIRECT, term=term, **options), argnums=(0, 1), has_aux=True)
    (_, (values, stats, _)), expected = jax.jit(direct)(W, START)
    own, found, (replayed_values, seen, ys) = jax.jit(partial(_both_gradients, term=term, **options))(W, START)
    assert seen.rejected > 0 or not rejects
    assert seen[1:5] == stats[1:5]
    assert seen.measuring is None or seen.measuring >= seen.accepted
    for key, value in values.items():
        assert float(replayed_values[key]) == pytest.approx(float(value), rel=VALUE)
    for gradient, wanted in zip(found, expected, strict=True):
        assert np.linalg.norm(gradient - wanted) <= GRADIENT * np.linalg.norm(wanted)
        assert np.linalg.norm(wanted) > 0
    (_, bare), gradient = jax.jit(jax.value_and_grad(partial(_loss, **options), argnums=(0, 1), has_aux=True))(W, START)
    assert np.array_equal(ys, bare)
    assert all(map(np.array_equal, own, gradient))


def test_batch_of_replayed_solves_is_each_of_them():
    starts = np.stack([START, 3 * START, 0.1 * START])

    def penalty(w, x):
        return _penalty(w, x, BACKSOLVE, SOME, replay=True)[0]

    mapped = quick_jit(jax.value_and_grad(lambda w: jax.vmap(partial(penalty, w))(starts).sum()))
    alone = quick_jit(jax.value_and_grad(penalty))
    value, gradient = mapped(W)
    values, gradients = zip(*(alone(W, x) for x in starts), strict=True)
    assert float(value) == pytest.approx(float(sum(values)), rel=VALUE)
    assert np.linalg.norm(gradient - sum(gradients)) <= GRADIENT * np.linalg.norm(gradient)


def test_steps_beyond_the_last_are_not_taken():
    # One case of three, and none of the 97 that the bound would allow, also in a batch.
    taken = []

    def take(carried, t):
        jax.debug.callback(lambda: taken.append(t))
        (total,), kept = carried
        return (total + kept * t,), kept + t

    def run(count, kept):
        start = ((jnp.zeros(()),), kept)
        return replayed(take, start, ((jnp.arange(1.0, 101.0),), count))[0][0]

    value, gradient = quick_jit(jax.value_and_grad(run, argnums=1))(3, 1.0)
    jax.effects_barrier()
    assert (float(value), float(gradient)) == (1 + 2 * 2 + 3 * 4, 6.0)
    forwards = len(taken)
    assert forwards <= 3 * 3  # forwards, for its chunk, and for itself
    taken.clear()
    values = quick_jit(jax.vmap(run, in_axes=(0, None)))(jnp.array([1, 3, 0]), 1.0)
    jax.effects_barrier()
    assert values.tolist() == [1.0, 17.0, 0.0]
    assert len(taken) <= 3 * 3  # each of three steps for each of a batch of three


def test_regularize_adds_the_gradient_of_a_replay():
    (own, _), (added, _), (_, _, ys) = jax.jit(partial(_both_gradients, term=tap.LocalError()))(W, START)
    with tap.regularize("10*local_error:replay") as regularized:
        (_, found), gradient = jax.jit(jax.value_and_grad(_loss, has_aux=True))(W, START)
    jax.effects_barrier()
    assert np.array_equal(found, ys)
    assert not regularized.left_out
    assert np.linalg.norm(gradient - own - 10 * added) <= 1e-9 * np.linalg.norm(gradient)


def test_steps_without_a_bound_are_refused_and_the_refusal_names_the_replay():
    with pytest.raises(errors.ContinuousAdjointError, match=r"does not help.*`max_steps=None`"):
        _penalty(W, START, BACKSOLVE, tap.LocalError(), replay=True, max_steps=None)
    with pytest.raises(errors.ContinuousAdjointError, match=r"`replay=True`.*`LocalSample`"):
        _penalty(W, START, BACKSOLVE, tap.LocalError())


def test_replay_beside_a_sample_and_a_trace():
    term = tap.LocalError() + tap.LocalSample(tap.LocalError())
    found = []
    for adjoint, replay in ((DIRECT, False), (BACKSOLVE, True)):
        with tap.observe(term, trace=True, key=jax.random.key(0), replay=replay) as seen:
            _solve(W, START, adjoint)
        found.append((seen.values, seen.trace.t))
    (direct, times), (again, replayed_times) = found
    assert np.array_equal(times, replayed_times, equal_nan=True)
    for key, value in direct.items():
        assert float(again[key]) == pytest.approx(float(value), rel=VALUE)
