"""Accepted steps of diffrax, taken again: for `BacksolveAdjoint`, whose steps carry no gradient."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from solvertap import Step
from solvertap.adapting import Replay, Solve
from solvertap_jax.structure import as_state

from ._cost import cost, measuring
from ._extra_step import outside_loop
from ._prepared import Prepared, prepared
from ._solver import Grid, TappedSolver


def unreplayable(arguments: dict[str, Any]) -> str:
    """Why the steps of a solve cannot be taken again, if so."""
    return "`max_steps=None` leaves their number unbounded" if arguments["max_steps"] is None else ""


def empty_grid(arguments: dict[str, Any]) -> Grid:
    """The grid before the first step, with room for as many as there may be."""
    problem, bound = prepared(arguments), int(arguments["max_steps"])
    times = jnp.zeros(bound, problem.t0.dtype)
    return Grid(times, times, jnp.zeros(bound, bool))


def begin(replay: Replay, tapped: TappedSolver, arguments: dict[str, Any], grid: Grid, accepted: Any) -> None:
    """Begins the replay of a solve that is over, with the arguments of `diffeqsolve`."""
    args, problem = arguments["args"], prepared(arguments)
    inner = outside_loop(tapped.inner, arguments["stepsize_controller"])
    single: TappedSolver = eqx.tree_at(lambda s: s.inner, tapped, inner)

    def advance(kept: Any, t0: Any, t1: Any, made_jump: Any) -> tuple[Step, Any]:
        y0, state = kept
        step, y1, state = single.take(problem.terms, t0, t1, y0, args, state, made_jump, replay.needs_step_doubling)
        return step, (y1, state)

    replay.begin(advance, (problem.y0, _first_state(single, problem, grid, arguments)), as_state(problem.y0))
    replay.grid = (grid, accepted)


def _first_state(single: TappedSolver, problem: Prepared, grid: Grid, arguments: dict[str, Any]) -> Any:
    given = arguments["solver_state"]
    if given is None:
        given = single.inner.init(problem.terms, problem.t0, grid.t1[0], problem.y0, arguments["args"])
    else:
        given = given[0]  # beside it is the carry
    return jax.tree.map(jnp.asarray, given)


def count(solve: Solve, arguments: dict[str, Any], solver: Any, grid: Grid, accepted: Any) -> None:
    """Counts what a replay evaluates."""
    replay, terms = solve.replay, arguments["terms"]
    if replay is None or solve.measuring.evaluations is None:
        return
    stiffness = any(term.measures_stiffness for term in replay.terms)
    own, added = cost(solver, terms), measuring(solver, terms, stiffness, replay.needs_step_doubling)
    if own is None or added is None:
        solve.measuring.evaluations = solve.measuring.diffusion_evaluations = None
        return
    if arguments["solver_state"] is not None:
        own = own._replace(drift_once=0, diffusion_once=0)
    jumps = jnp.sum(grid.made_jump & (jnp.arange(len(grid.made_jump)) < accepted))
    anew = jumps + own.begins_anew * (accepted > 0)
    for each in (own, added):
        drift, diffusion = each.total(accepted, anew)
        solve.measuring.evaluations += drift
        solve.measuring.diffusion_evaluations += diffusion
