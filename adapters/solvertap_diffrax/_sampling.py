"""How diffrax takes one more step, from anywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from diffrax._root_finder import use_stepsize_tol
from diffrax._term import WrapTerm
from jax.lax import stop_gradient

from solvertap import Sampling, Step, Stiffness

from ._method import Cost, cost
from ._structure import as_state, as_tree
from ._tapped import TappedSolver


def begin(sampling: Sampling, tapped: TappedSolver, arguments: dict[str, Any]) -> Any:
    """Says how a step is taken, from what `diffeqsolve` is given; the solver that draws while it solves."""
    terms, y0, args, controller = (arguments[name] for name in ("terms", "y0", "args", "stepsize_controller"))
    start, end = (stop_gradient(jnp.asarray(arguments[name])) for name in ("t0", "t1"))
    # _integrate.py::diffeqsolve, which does all of this to its arguments before it begins.
    direction = jnp.where(start < end, 1, -1)
    wrapped = jax.tree.map(lambda term: WrapTerm(term, direction), terms, is_leaf=_is_single)
    alone: TappedSolver = eqx.tree_at(lambda s: s.inner, tapped, _alone(tapped.inner, controller))
    structure = jax.tree.structure(y0)

    def restart(t0: Any, y: Any, t1: Any) -> Step:
        # What is kept of times is as wide as can be, and would widen the state.
        narrow = min((jnp.real(x).dtype for x in jax.tree.leaves(y)), key=lambda dtype: dtype.itemsize)
        t0, t1 = (direction * t.astype(narrow) for t in (t0, t1))
        return alone.restart(wrapped, t0, t1, as_tree(structure, y), args, sampling.doubles)

    sampling.begin(restart, end, as_state(y0))
    return eqx.tree_at(lambda s: s.draws, tapped, sampling.draws, is_leaf=lambda x: x is None)


def with_samples(spent: Cost | None, sampling: Sampling, solver: Any, terms: Any) -> Cost | None:
    """The cost of a solve, that of its extra steps included."""
    if spent is None:
        return None
    drift, diffusion = spent.drift_once, spent.diffusion_once
    for kind in sampling.kinds:
        # One step to the place that was drawn, and one that is measured.
        for measured in (True,) if kind == "steps" else (False, True):
            stiffness = measured and any(isinstance(term, Stiffness) for term in sampling.measured(kind))
            each = cost(solver, terms, stiffness, doubles=sampling.doubles)
            assert each is not None  # as that of the solve is not
            more = each.total(1)
            drift, diffusion = drift + more[0], diffusion + more[1]
    return spent._replace(drift_once=drift, diffusion_once=diffusion)


def _alone(solver: Any, controller: Any) -> Any:
    """The solver for a step outside of any loop."""
    if getattr(solver, "scan_kind", "") is None:  # in every mode of differentiation, as under `ForwardMode`
        solver = eqx.tree_at(lambda s: s.scan_kind, solver, "bounded", is_leaf=lambda x: x is None)
    finder = getattr(solver, "root_finder", None)
    for name in ("rtol", "atol", "norm"):
        if getattr(finder, name, None) is use_stepsize_tol:
            solver = eqx.tree_at(_of_finder(name), solver, getattr(controller, name))
    return solver


def _of_finder(name: str) -> Callable[[Any], Any]:
    return lambda solver: getattr(solver.root_finder, name)


def _is_single(x: Any) -> bool:
    return isinstance(x, diffrax.AbstractTerm) and not isinstance(x, diffrax.MultiTerm)
