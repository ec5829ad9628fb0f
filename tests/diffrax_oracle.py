"""The problems on which diffrax's solvers are tested, and the replay of their steps on the frozen grid."""

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
from diffrax._heuristics import is_sde

import solvertap as tap
from tests.cells import proves
from tests.oracle import TERMS, TakenStep, assert_gradient_matches, rms, total, unit, weighted
from tests.quick_jit import quick_jit
from tests.smooth_noise import SmoothNoise

WEIGHTS = np.random.default_rng(0).normal(size=(2, 2))
# Converged to rounding: what an unfinished iteration leaves would be no derivative of anything.
NEWTON = {"root_finder": optx.Newton(rtol=1e-12, atol=1e-12), "root_find_max_steps": 20}
Y0 = jnp.array([1.0, -0.5])


def mark(label, build, solver):
    """The cells of the support table that `check` proves."""
    return proves("diffrax", label, supported(build, solver), "value", "gradient")


def slope(t, y, weights, gain=4):
    """A random tanh field with a kink in its forcing: a large first step is rejected."""
    return gain * jnp.tanh(weights @ y) + 20 * jax.nn.relu(t - 0.5) - y


@dataclass
class Problem:
    """Terms that depend on weights, a start, and the smooth part of the slope as a function of (t, y, h)."""

    terms: Any
    slope: Any
    y0: Any = dataclasses.field(default_factory=lambda: Y0)
    dt0: float = 0.9
    tolerance: float = 1e-3
    controller: dict = dataclasses.field(default_factory=dict)


def ode(weights, gain=4, dt0=0.9):
    field = partial(slope, weights=weights, gain=gain)
    return Problem(diffrax.ODETerm(lambda t, y, _: field(t, y)), lambda t, y, h: field(t, y), dt0=dt0)


# Where the errors of a high order would be roundings.
lively = partial(ode, gain=16)
# Where a first step across the kink would never be recovered from.
careful = partial(ode, dt0=0.5)


def tree(weights):
    """A state of several parts."""
    parts = lambda t, y: {"a": slope(t, y["a"], weights), "b": (jnp.sin(y["b"][0] * y["a"].sum()) - y["b"][0],)}  # noqa: E731  # one field
    start = {"a": Y0, "b": (jnp.array([[0.3, 2.0, -1.0]]),)}
    return Problem(diffrax.ODETerm(lambda t, y, _: parts(t, y)), lambda t, y, h: parts(t, y), start)


def split(weights):
    """An explicit and an implicit part."""
    parts = (lambda t, y: 4 * jnp.tanh(weights @ y) + 20 * jax.nn.relu(t - 0.5)), (lambda t, y: -weights.T @ y - y)
    terms = diffrax.MultiTerm(*(diffrax.ODETerm(lambda t, y, _, part=part: part(t, y)) for part in parts))
    return Problem(terms, lambda t, y, h: parts[0](t, y) + parts[1](t, y))


def pair(weights):
    """A position and a momentum, each with a field of the other."""
    force = lambda t, q, _: 4 * jnp.tanh(weights @ q) + 20 * jax.nn.relu(t - 0.5)  # noqa: E731  # one of two fields
    velocity = lambda t, p, _: jnp.sin(p) - p  # noqa: E731  # the other
    terms = diffrax.ODETerm(velocity), diffrax.ODETerm(force)
    return Problem(terms, lambda t, y, h: (velocity(t, y[1], None), force(t, y[0], None)), (Y0, Y0[::-1]))


def cde(weights):
    """A neural CDE: the control is a smooth path, and a step sees its increment."""
    rise = lambda t: jnp.stack([jnp.sin(9 * t), t + jnp.cos(7 * t)])  # noqa: E731  # the path
    path = lambda t0, t1: rise(t1) - rise(t0)  # noqa: E731  # its increment
    matrix = lambda y: jnp.tanh(weights @ y)[:, None] * jnp.array([[2.0, -1.0]]) + y[:, None]  # noqa: E731  # the field
    terms = diffrax.ControlTerm(lambda t, y, _: matrix(y), path)
    problem = Problem(terms, None, tolerance=1e-2)
    # Of the increment of the step that ends at t.
    problem.slope = lambda t, y, h: matrix(y) @ path(t - h, t) / h
    return problem


def tree_noise(area):
    """The path that users take; in a doubled step it compiles for up to a minute."""
    return diffrax.VirtualBrownianTree(0.0, 1.0, 1e-3, (2,), jax.random.key(3), levy_area=area)


def _noise(area):
    return SmoothNoise(area, jnp.asarray(np.random.default_rng(3).normal(size=(8, 2))))


def sde(weights, additive=False, area=diffrax.BrownianIncrement, noise=_noise):
    drift = lambda t, y: 3 * jnp.tanh(weights @ y) + jnp.sin(20 * t)  # noqa: E731  # the smooth part
    diffusion = lambda t, y, _: 0.3 * weights if additive else jnp.diag(0.3 * jnp.sin(weights.T @ y))  # noqa: E731
    noisy = diffrax.ControlTerm(diffusion, noise(area))
    terms = diffrax.MultiTerm(diffrax.ODETerm(lambda t, y, _: drift(t, y)), noisy)
    return Problem(terms, lambda t, y, h: drift(t, y), dt0=0.3, controller={"pcoeff": 0.1, "icoeff": 0.3})


levy_sde = partial(sde, area=diffrax.SpaceTimeLevyArea)
additive_sde = partial(sde, additive=True, area=diffrax.SpaceTimeLevyArea)


def langevin(weights):
    """Underdamped Langevin dynamics, on a potential that the weights bend."""
    gamma, u = 1.0, 1.0
    force = lambda x, _: weights.T @ jnp.tanh(5 * weights @ x) + x  # noqa: E731  # the gradient of the potential
    terms = diffrax.MultiTerm(
        diffrax.UnderdampedLangevinDriftTerm(gamma, u, force),
        diffrax.UnderdampedLangevinDiffusionTerm(gamma, u, _noise(diffrax.SpaceTimeTimeLevyArea)),
    )
    drift = lambda t, y, h: (y[1], -gamma * y[1] - u * force(y[0], None))  # noqa: E731  # of position and velocity
    # Tight, or few steps are taken, the last so short that its S is a quotient of roundings.
    return Problem(terms, drift, (Y0, Y0[::-1]), tolerance=1e-4, controller={"pcoeff": 0.1, "icoeff": 0.3})


def solve(problem, solver, tolerance=None, **options):
    tolerance = problem.tolerance if tolerance is None else tolerance
    controller = diffrax.PIDController(rtol=tolerance, atol=tolerance, **problem.controller)
    options = {"stepsize_controller": controller, "max_steps": 512} | options
    return diffrax.diffeqsolve(problem.terms, solver, 0.0, 1.0, problem.dt0, problem.y0, **options)


def solver_of(solver):
    """The solver whose steps are taken."""
    return solver.solver if isinstance(solver, diffrax.HalfSolver) else solver


def _tableau(solver):
    """(rows with their diagonal, nodes, weights), or None."""
    rows = getattr(solver, "tableau", None)
    if isinstance(rows, diffrax.MultiButcherTableau):
        return None, [0.0, *rows.tableaus[0].c], rows.tableaus[0].b_sol
    if not isinstance(rows, diffrax.ButcherTableau):
        return None
    matrix = np.zeros((rows.num_stages, rows.num_stages))
    for i, row in enumerate(rows.a_lower):
        matrix[i + 1, : i + 1] = row
    if rows.a_diagonal is not None:
        matrix += np.diag(rows.a_diagonal)
    return matrix, [0.0, *rows.c], rows.b_sol


def _tree_sum(row, k):
    return jax.tree.map(lambda x: jnp.tensordot(row, x, 1), k)


def shows_slopes(problem, solver):
    """The nodes of the slopes that a step shows; None where the terms on slopes are not supported."""
    if is_sde(problem.terms):
        return None
    inner = solver_of(solver)
    if isinstance(inner, diffrax.ImplicitEuler):
        return None if inner is not solver else [0.0, 1.0]
    tableau = _tableau(inner)
    return None if tableau is None else tableau[1]


def _take(problem, solver, slopes, carry, step):
    y0, state = carry
    t0, h = step
    t1 = t0 + h
    y1, error, dense, state, _ = solver.step(problem.terms, t0, t1, y0, None, state, False)
    doubled = isinstance(solver, diffrax.HalfSolver)
    tableau = _tableau(solver)
    a, b = y1, dense["y1"] if doubled else jax.tree.map(jnp.subtract, y1, error)
    if tableau is not None and tableau[0] is not None and slopes is not None and tableau[1][-1] == 1:
        rows, nodes, weights = tableau
        stage = lambda row: jax.tree.map(jnp.add, y0, _tree_sum(row, dense["k"]))  # noqa: E731  # its state
        if nodes[-2:] == [1, 1]:
            a, b = stage(rows[-1]), stage(rows[-2])
        elif not np.array_equal(rows[-1], weights):
            b = stage(rows[-1])
    k = None
    if isinstance(solver, diffrax.ImplicitEuler):
        k = jnp.stack([problem.slope(t0, y0, h), problem.slope(t1, y1, h)])
    elif slopes is not None:
        k = sum(dense["k"]) if isinstance(solver_of(solver).tableau, diffrax.MultiButcherTableau) else dense["k"]
        k = jnp.concatenate([x.reshape(x.shape[0], -1) for x in jax.tree.leaves(k)], axis=1) / h
    flat = lambda y: jnp.concatenate([x.ravel() for x in jax.tree.leaves(y)])  # noqa: E731  # parts weigh by elements
    ends = problem.slope(t1, a, h), problem.slope(t1, b, h)
    return (y1, state), ([flat(x) for x in (y0, y1, error, a, b, *ends)], k)


def replay(build, solver, slopes, steps, weights):
    """The recorded steps with other weights, each a `TakenStep`."""
    problem = build(weights)
    start = solver.init(problem.terms, steps[0, 0], steps[0, 0] + steps[0, 1], problem.y0, None)
    _, (states, k) = jax.lax.scan(partial(_take, problem, solver, slopes), (problem.y0, start), tuple(steps.T))
    return states, k


def supported(build, solver):
    """The terms that the solver supports on the problem."""
    slopes = shows_slopes(build(WEIGHTS), solver)
    return [name for name in TERMS if slopes is not None or name not in ("kinetic_energy", "slope_change")]


def check(build, solver, tolerance=None, constant=(), norm=rms, **options):
    """Every term that the solver supports, out of two compilations: values and gradients of the frozen grid.

    Args:
        build, solver, tolerance, options: of the solve.
        norm: of the solve, on flat NumPy arrays.
        constant: terms that do not depend on the weights here, so that gradient and quotients are zero.
    """
    slopes = shows_slopes(build(WEIGHTS), solver)
    names = supported(build, solver)

    @quick_jit
    @partial(jax.value_and_grad, has_aux=True)
    def penalty(weights, chosen):
        with tap.observe(weighted(chosen, names), trace=True) as seen:
            solve(build(weights), solver, tolerance, **options)
        return seen.penalty, (seen.stats, seen.trace)

    tolerance = build(WEIGHTS).tolerance if tolerance is None else tolerance
    found = [penalty(WEIGHTS, unit(name, names)) for name in names]
    (_, (stats, trace)), _ = found[0]
    assert stats.rejected > 0
    trace = trace.numpy()
    steps = np.stack([trace["t"], trace["h"]], axis=1)[trace["accepted"]]
    again = quick_jit(partial(replay, build, solver, slopes, steps))
    cached = {}

    def replayed(weights):
        if weights.tobytes() not in cached:
            states, k = again(weights.reshape(WEIGHTS.shape))
            columns = [[np.asarray(x[i]) for x in states] for i in range(len(steps))]
            cached[weights.tobytes()] = [
                TakenStep(h, *arrays, k=None if k is None else np.asarray(k[i]), c=slopes)
                for i, (h, arrays) in enumerate(zip(steps[:, 1], columns, strict=True))
            ]
        return cached[weights.tobytes()]

    for name, ((value, _), gradient) in zip(names, found, strict=True):
        function = lambda weights, name=name: total(name, replayed(weights), tolerance, tolerance, norm)  # noqa: E731
        assert float(value) == pytest.approx(function(WEIGHTS.ravel()), rel=1e-9), name
        if name in constant:
            assert np.linalg.norm(gradient) <= 1e-9 * function(WEIGHTS.ravel())
            assert function(WEIGHTS.ravel() + 0.01) == pytest.approx(function(WEIGHTS.ravel()), rel=1e-6)
        else:
            assert_gradient_matches(function, WEIGHTS.ravel(), np.asarray(gradient).ravel())
    return stats
