"""A step of a solver that has an `_adaptive_step` of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from solvertap import unobserved
from solvertap.adapting import Solve

from ._field import TappedField
from ._loop import close
from ._path import settle_path


def own_attempt(solver: Any, adaptive_step: Callable[..., Any], rk_state: Any) -> Any:
    """One step of the user's own, whose attempts are heard as it calls `_runge_kutta_step` or the one above it."""
    field: TappedField = solver.func
    if field.solve.fold.terms:
        rk_state = _with_step_held(rk_state, field.held)
    field.attempting = True
    try:
        # A solve inside the field is part of the field.
        new_state = unobserved().call(adaptive_step, solver, rk_state)
        moved = _is_moved(rk_state, new_state)
        if not settle_path(field, new_state, moved):
            if moved and field.solve.terms:
                field.held.clear()
                close(solver, field.solve)
            _count(field.solve, moved)
    except BaseException:
        field.solve.abandon()
        raise
    finally:
        field.attempting = False
    return new_state


def _count(solve: Solve, moved: bool) -> None:
    """Counts a step of which nobody knows how it was made; a trace that lacks it knows no counts either."""
    if solve.trace_wanted:
        solve.closed = True
    else:
        solve.count(accepted=moved)


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
