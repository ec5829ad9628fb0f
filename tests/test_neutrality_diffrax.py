"""Random problems through diffrax, observed and bare: the same bits of all it returns, warnings and exceptions."""

from collections import Counter
from itertools import product

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("diffrax")

import diffrax
import equinox as eqx
import jax.numpy as jnp
import optimistix
from diffrax import diffeqsolve  # by name, before any tap
from hypothesis import given, settings

import solvertap as tap
from tests.faults import fault
from tests.neutrality import SETTINGS, Originals, Outcome, draw, observations, observe

STATES = {
    "array": (2, 3),
    "scalar": (),
    "tree": {"a": (2,), "b": [(), (1, 2)]},
    "no elements": (0, 3),
}
SOLVERS = {
    "Dopri5": diffrax.Dopri5(),
    "Tsit5": diffrax.Tsit5(),
    "Bosh3": diffrax.Bosh3(),
    "Heun": diffrax.Heun(),
    "HalfSolver": diffrax.HalfSolver(diffrax.Midpoint()),
    "Kvaerno3": diffrax.Kvaerno3(),
}
CONTROLLERS = {
    "plain": lambda x: diffrax.PIDController(rtol=x, atol=x),
    "bounded": lambda x: diffrax.PIDController(rtol=x, atol=x, dtmin=1e-2, dtmax=0.2, pcoeff=0.3, icoeff=0.4),
    "norm": lambda x: diffrax.PIDController(rtol=x, atol=x, norm=optimistix.max_norm),
    "stops": lambda x: diffrax.ClipStepSizeController(
        diffrax.PIDController(rtol=x, atol=x), step_ts=jnp.full(1, 0.25, x.dtype), jump_ts=jnp.full(1, 0.3, x.dtype)
    ),
}
SAVED = {
    "end": lambda t0, t1: diffrax.SaveAt(t1=True),
    "times": lambda t0, t1: diffrax.SaveAt(t0=True, ts=jnp.linspace(t0, t1, 4)),
    "steps": lambda t0, t1: diffrax.SaveAt(steps=True, fn=lambda t, y, args: jax.tree.map(jnp.sum, y)),
    "dense": lambda t0, t1: diffrax.SaveAt(dense=True),
    "states": lambda t0, t1: diffrax.SaveAt(t1=True, solver_state=True, controller_state=True, made_jump=True),
}
ADJOINTS = {
    "forward": diffrax.ForwardMode(),
    "checkpoint": diffrax.RecursiveCheckpointAdjoint(),
    "direct": diffrax.DirectAdjoint(),
}
CHOICES = {
    "state": STATES,
    "dtype": ["float64", "float32", "float16", "complex128"],
    "solver": SOLVERS,
    "controller": CONTROLLERS,
    "saved": SAVED,
    "first_step": [0.5, None],
    "event": [False, False, True],
    "run": ["throw", "return", "vmap"],
}
# Every problem is compiled once, and solved with all of these.
NUMBERS = list(product([(0.0, 1.0), (0.8, -0.3), (0.5, 0.5)], [1, 0, 30], [1e-2, 1e-4, 1e-6]))


def numbers(state, dtype, times, scale, tolerance):
    """Weight, y0, t0, t1 and tolerance."""
    real = np.dtype(dtype).type(0).real.dtype.type

    def part(shape):
        return (scale * jnp.cos(jnp.arange(np.prod(shape, dtype=int)))).reshape(shape).astype(dtype)

    y0 = jax.tree.map(part, STATES[state], is_leaf=lambda x: isinstance(x, tuple))
    return real(1.3), y0, *map(real, times), real(tolerance)


def solve(problem, weight, y0, t0, t1, tolerance):
    def field(t, x):
        return (4 * jnp.tanh(weight * x) + jax.nn.relu(20 * t - 6) - x).astype(x.dtype)

    return diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: jax.tree.map(lambda x: field(t, x), y)),
        SOLVERS[problem["solver"]],
        t0,
        t1,
        problem["first_step"] and jnp.where(t0 < t1, 1, -1).astype(t0.dtype) * problem["first_step"],
        y0,
        saveat=SAVED[problem["saved"]](t0, t1),
        stepsize_controller=CONTROLLERS[problem["controller"]](tolerance),
        event=diffrax.Event(lambda t, y, args, **_: t - 0.4) if problem["event"] else None,
        adjoint=ADJOINTS[problem["adjoint"]],
        max_steps=16,
        throw=problem["run"] == "throw",
    )


def outcomes(problem, function):
    """What a function of the numbers gives for all of them, with the derivative of what was saved."""

    def derived(*args):
        def saved(*free):
            solution, seen = function(*free, args[-1])
            return solution.ys, (solution, seen)

        if problem["adjoint"] == "forward":
            _, derivative, rest = jax.jvp(saved, args[:-1], jax.tree.map(jnp.ones_like, args[:-1]), has_aux=True)
        else:
            ys, pull, rest = jax.vjp(saved, *args[:-1], has_aux=True)
            derivative = pull(jax.tree.map(jnp.ones_like, ys))
        return derivative, *rest

    every = [numbers(problem["state"], problem["dtype"], *each) for each in NUMBERS]
    if problem["run"] == "vmap":
        every = [jax.tree.map(lambda *x: jnp.stack(x), *every)]
        derived = jax.vmap(derived)
    compiled = eqx.filter_jit(derived)
    return [Outcome.of(compiled, *each) for each in every]


def bits(tree):
    arrays = [np.asarray(x) for x in jax.tree.leaves(tree) if eqx.is_array(x)]
    return jax.tree.structure(tree), [(x.dtype, x.shape, x.tobytes()) for x in arrays]


def reason(error):
    """Without the stack that Equinox puts before it."""
    return error and (error[0], error[1].rpartition("EquinoxRuntimeError: ")[2])


def check(met, originals, problem, observation):
    names, trace = observation["names"], observation["trace"]

    def bare(*args):
        return solve(problem, *args), None

    def observed(*args):
        with observe(names, trace) as seen:
            solution = solve(problem, *args)
        return solution, (seen.stats, seen.trace.length if trace else None, seen.penalty if names else None)

    tap.detach()
    before = outcomes(problem, bare)
    with tap.observe():
        assert originals.changed()
    while_observed = outcomes(problem, observed)
    tap.detach()
    assert not originals.changed()
    for (expected, expected_error, warned), (found, error, warnings) in zip(before, while_observed, strict=True):
        assert reason(error) == reason(expected_error)
        assert warnings == warned
        met.update(raised=error is not None)
        if not error:
            derivative, solution, seen = found
            assert bits((derivative, solution)) == bits(expected[:2])
            check_what_was_seen(problem, solution.stats, *seen)
            met.update(rejected=int(solution.stats["num_rejected_steps"].sum()))


def check_what_was_seen(problem, own, stats, length, penalty):
    assert np.all(stats.solves == 1)
    assert np.array_equal(stats.accepted, own["num_accepted_steps"])
    assert np.array_equal(stats.rejected, own["num_rejected_steps"])
    assert length is None or np.array_equal(length, own["num_steps"])
    if penalty is not None:
        assert jnp.isfinite(penalty).all()
        assert (penalty >= 0).all()
        assert penalty.dtype == ("float64" if problem["dtype"] in ("float64", "complex128") else "float32")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("adjoints", "examples"), [(["forward"], 5), (["checkpoint", "direct"], 2)], ids=["forward mode", "reverse mode"]
)
@fault(
    "random pytrees, dtypes, tolerances, times, solvers, controllers, events and adjoints through `diffeqsolve`",
    "bitwise the bare solution and gradient, the same exceptions",
)
def test_random_problem_is_solved_observed_as_it_is_bare(adjoints, examples):
    met = Counter()
    tap.detach()
    drawn = given(problem=draw(**CHOICES, adjoint=adjoints), observation=observations())(check)
    settings(SETTINGS, max_examples=examples)(drawn)(met, Originals("diffrax"))
    assert met["raised"]
    assert met["rejected"]
