"""What is known of a diffrax solver before it runs: whether it is diffrax's own, and its tableau."""

from __future__ import annotations

from typing import Any

import diffrax
from diffrax._heuristics import is_sde

from solvertap.adapting import Tableau

_EULER = Tableau(c=(0,), b=(1,), a=((),))
ONE_DRIFT = (diffrax.Euler, diffrax.EulerHeun, diffrax.ItoMilstein, diffrax.StratonovichMilstein)


def owner(cls: type, name: str) -> type:
    """The class in the method resolution order of `cls` that defines `name`."""
    return next(each for each in cls.__mro__ if name in vars(each))


def has_builtin(thing: Any, name: str) -> bool:
    """Whether a method of an object is diffrax's own."""
    return _is_diffrax_module(owner(type(thing), name).__module__)


def _is_diffrax_module(name: str) -> bool:
    return name.partition(".")[0] == diffrax.__name__


def is_builtin(solver: Any) -> bool:
    """Whether the step of a solver is diffrax's own, with any tableau.

    Of a user's step only the result is known, not its evaluations or the meaning of its `dense_info`. The check
    uses `type(solver)`, because diffrax's `isinstance` looks through wrappers.
    """
    return all(has_builtin(solver, name) for name in ("init", "step"))


def is_half(solver: Any) -> bool:
    """Whether a solver is a `HalfSolver` whose step is diffrax's own."""
    return issubclass(type(solver), diffrax.HalfSolver) and is_builtin(solver)


def shows_whole_step(solver: Any, dense_info: Any) -> bool:
    """Whether a `HalfSolver` shows the result of the whole step, in the `dense_info` of diffrax's interpolations."""
    interpolation = getattr(solver.interpolation_cls, "__module__", "")
    return isinstance(dense_info, dict) and "y1" in dense_info and _is_diffrax_module(interpolation)


def name_of(solver: Any) -> str:
    """The name of a solver: that of its class, with that of the solver it wraps."""
    inner = getattr(solver, "solver", None)
    name = type(solver).__name__
    return f"{name}({name_of(inner)})" if isinstance(inner, diffrax.AbstractSolver) else name


def tableau(solver: Any, terms: Any) -> Tableau | None:
    """The tableau of the slopes that a step shows; None if it shows none, or mixes them with noise."""
    doubled = is_half(solver)
    method = _drift_tableau(solver.solver if doubled else solver)
    if is_sde(terms) or not _shows_slopes(solver.solver if doubled else solver, doubled) or method is None:
        return None
    # A doubled step shows the slopes of the whole step, but returns the result of the halves: rows a do not apply.
    return Tableau(c=method.c, b=method.b) if doubled else method


def stability_size(solver: Any) -> float | None:
    """The stability size for the drift alone. A doubled solver returns two half steps, so its size is doubled."""
    if is_half(solver):
        inner = stability_size(solver.solver)
        return None if inner is None else 2 * inner
    is_euler = issubclass(type(solver), ONE_DRIFT) and is_builtin(solver)
    method = _EULER if is_euler else _drift_tableau(solver)
    return None if method is None else method.stability_size


def _shows_slopes(solver: Any, doubled: bool) -> bool:
    # An implicit Euler step shows its first slope through its error, which step doubling hides.
    implicit_euler = issubclass(type(solver), diffrax.ImplicitEuler)
    return issubclass(type(solver), diffrax.AbstractRungeKutta) or (implicit_euler and not doubled)


def _drift_tableau(solver: Any) -> Tableau | None:
    if not is_builtin(solver):
        return None
    if issubclass(type(solver), diffrax.ImplicitEuler):
        # implicit_euler.py: y_error = (k1 - k0) / 2, k0 being the slope at the start.
        return Tableau(c=(0, 1), b=(0, 1), a=((), (0, 1)))
    rows = getattr(solver, "tableau", None)
    if isinstance(rows, diffrax.MultiButcherTableau):
        # Each stage combines two slopes, f = f_explicit + f_implicit, so no single tableau has its rows.
        first = rows.tableaus[0]
        return Tableau(c=(float(first.c1), *first.c.tolist()), b=first.b_sol.tolist())
    if isinstance(rows, diffrax.ButcherTableau):
        lower: list[list[float]] = [[], *(row.tolist() for row in rows.a_lower)]
        if rows.a_diagonal is not None:
            lower = [[*row, x] for row, x in zip(lower, rows.a_diagonal.tolist(), strict=True)]
        e = None if lacks_estimate(solver) else rows.b_error.tolist()
        return Tableau(c=(float(rows.c1), *rows.c.tolist()), b=rows.b_sol.tolist(), a=lower, e=e)
    if isinstance(rows, diffrax.StochasticButcherTableau):
        lower = [[], *(row.tolist() for row in rows.a)]
        return Tableau(c=(0.0, *rows.c.tolist()), b=rows.b_sol.tolist(), a=lower)
    return None


def lacks_estimate(solver: Any) -> bool:
    """Whether a solver of diffrax estimates no error. Some return zeros instead, which are no error estimate."""
    if not is_builtin(solver) or is_half(solver):
        return False
    rows = getattr(solver, "tableau", None)
    if isinstance(rows, diffrax.StochasticButcherTableau):
        return rows.b_error is None
    if isinstance(rows, diffrax.ButcherTableau):
        return not rows.b_error.any()
    return issubclass(type(solver), (*ONE_DRIFT, diffrax.SemiImplicitEuler, diffrax.LeapfrogMidpoint))
