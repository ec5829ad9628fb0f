"""A step of a solver that has an `_adaptive_step` of its own, and the last one of dense output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from solvertap import unobserved

from ._field import TappedField
from ._loop import close


def own_attempt(solver: Any, adaptive_step: Callable[..., Any], rk_state: Any) -> Any:
    """One step of the user's own, whose attempts are heard as it calls `_runge_kutta_step` or the one above it."""
    field: TappedField = solver.func
    if field.solve.fold.terms:
        rk_state = _with_step_held(rk_state, field.held)
    field.attempting = True
    try:
        with unobserved():  # a solve inside the field is part of the field
            new_state = adaptive_step(solver, rk_state)
        if not field.settle_path(new_state, _is_moved(rk_state, new_state)) and field.solve.terms:
            field.held.clear()
            close(solver, field.solve)
    except BaseException:
        field.solve.abandon()
        raise
    finally:
        field.attempting = False
    return new_state


def dense(field: TappedField, state: Any) -> Any:
    """The state after a step of `odeint_dense`, which stops once it is past the last time.

    odeint.py::odeint_dense stacks the coefficients of all steps, so that a backward pass through any of them goes
    through those of the last one, if with zeros: what is put behind these is reached once, wherever the solution is
    read.
    """
    if state.t1 < field.end:
        return state
    with field.solve as solve:
        solve.finish()
    field.end = None
    return state._replace(interp_coeff=solve.through(state.interp_coeff))


def _with_step_held(rk_state: Any, held: list[bool]) -> Any:
    """The state with a step size that the penalty holds fixed; a controller may differentiate it."""
    dt = getattr(rk_state, "dt", None)
    if not getattr(dt, "requires_grad", False) or not hasattr(rk_state, "_replace"):
        return rk_state
    return rk_state._replace(dt=_Held.apply(dt, held))  # type: ignore[no-untyped-call]  # torch's


class _Held(torch.autograd.Function):
    """An identity that passes no gradient on, unless it turns out that nobody saw the step: nothing is asked then."""

    @staticmethod
    def forward(ctx: Any, dt: Any, held: list[bool]) -> Any:
        ctx.held = held
        return dt.view_as(dt)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        return None if ctx.held else cotangents[0], None


def _is_moved(old: Any, new: Any) -> bool:
    before, after = getattr(old, "t1", None), getattr(new, "t1", None)
    return after is not before and bool(after != before)
