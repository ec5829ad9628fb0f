"""Extra steps in diffrax."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from diffrax._root_finder import use_stepsize_tol

from solvertap import Step
from solvertap.adapting import ExtraStep
from solvertap_jax.structure import as_state, as_tree

from ._cost import Cost, cost, measuring
from ._prepared import prepared
from ._solver import TappedSolver


def begin(extra_step: ExtraStep, tapped: TappedSolver, arguments: dict[str, Any]) -> Any:
    """Begins the extra step with the arguments of `diffeqsolve`; returns the solver with the random source."""
    args, problem = arguments["args"], prepared(arguments)
    inner = outside_loop(tapped.inner, arguments["stepsize_controller"])
    single: TappedSolver = eqx.tree_at(lambda s: s.inner, tapped, inner)
    structure = jax.tree.structure(problem.y0)

    def restart(t0: Any, y: Any, t1: Any, *, needs_step_doubling: bool = extra_step.needs_step_doubling) -> Step:
        # The reservoir's times have the widest dtype, which would promote the state.
        narrow = min((jnp.real(x).dtype for x in jax.tree.leaves(y)), key=lambda dtype: dtype.itemsize)
        t0, t1 = (problem.direction * t.astype(narrow) for t in (t0, t1))
        return single.restart(problem.terms, t0, t1, as_tree(structure, y), args, needs_step_doubling)

    # `reach` only moves to the drawn time; its step is not measured and needs no halves.
    extra_step.begin(restart, problem.t1, as_state(problem.y0), reach=partial(restart, needs_step_doubling=False))
    return eqx.tree_at(lambda s: s.source, tapped, extra_step.source, is_leaf=lambda x: x is None)


def sampling_cost(extra_step: ExtraStep, solver: Any, terms: Any) -> Cost | None:
    """The evaluations of the extra steps; None if unknown."""
    drift, diffusion = 0, 0
    for kind in extra_step.kinds:
        stiffness = any(term.measures_stiffness for term in extra_step.measured(kind))
        step, more = cost(solver, terms), measuring(solver, terms, stiffness, extra_step.needs_step_doubling)
        if step is None or more is None:
            return None
        # A uniform draw takes a step to the drawn time before the measured one.
        for each in (step, more) if kind == "steps" else (step, step, more):
            drift, diffusion = drift + each.total(1)[0], diffusion + each.total(1)[1]
    return Cost(drift_once=drift, diffusion_once=diffusion)


def outside_loop(solver: Any, controller: Any) -> Any:
    """The solver for a step outside of diffrax's loop."""
    if getattr(solver, "scan_kind", "") is None:  # works in every mode of differentiation, as under `ForwardMode`
        solver = eqx.tree_at(lambda s: s.scan_kind, solver, "bounded", is_leaf=lambda x: x is None)
    finder = getattr(solver, "root_finder", None)
    for name in ("rtol", "atol", "norm"):
        if getattr(finder, name, None) is use_stepsize_tol:
            solver = eqx.tree_at(_of_finder(name), solver, getattr(controller, name))
    return solver


def _of_finder(name: str) -> Callable[[Any], Any]:
    return lambda solver: getattr(solver.root_finder, name)
