"""A step of a solver with its own `_adaptive_step`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from solvertap import unobserved
from solvertap.adapting import Solve

from ._field import TappedField
from ._loop import refuse_unseen_steps
from ._path import settle_path


def own_attempt(solver: Any, adaptive_step: Callable[..., Any], rk_state: Any) -> Any:
    """One step of a user's `_adaptive_step`; its attempts are seen in `_runge_kutta_step` or its base's method."""
    field: TappedField = solver.func
    if field.solve.fold.terms:
        rk_state = _with_fixed_step_size(rk_state, field.step_size_fixed)
    field.attempting = True
    try:
        # A solve inside the field is part of the field.
        new_state = unobserved().call(adaptive_step, solver, rk_state)
        moved = _is_moved(rk_state, new_state)
        if not settle_path(field, new_state, moved):
            if moved and field.solve.terms:
                field.step_size_fixed.clear()
                refuse_unseen_steps(solver, field.solve)
            _count(field.solve, moved)
    except BaseException:
        field.solve.abandon()
        raise
    finally:
        field.attempting = False
    return new_state


def _count(solve: Solve, moved: bool) -> None:
    """Counts a step without attempts that we saw. Under a trace, which lacks the step, no steps are counted."""
    if solve.trace_wanted:
        solve.closed = True
    else:
        solve.count(accepted=moved)


def _with_fixed_step_size(rk_state: Any, fixed: list[bool]) -> Any:
    """The state with a step size that carries no gradient: a user's controller may differentiate it."""
    dt = getattr(rk_state, "dt", None)
    if not getattr(dt, "requires_grad", False) or not hasattr(rk_state, "_replace"):
        return rk_state
    return rk_state._replace(dt=_FixStepSize.apply(dt, fixed))  # type: ignore[no-untyped-call]  # torch's


class _FixStepSize(torch.autograd.Function):
    """An identity without gradient, unless `fixed` was emptied because the step went unseen and has no penalty."""

    @staticmethod
    def forward(ctx: Any, dt: Any, fixed: list[bool]) -> Any:
        ctx.fixed = fixed
        return dt.view_as(dt)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        return None if ctx.fixed else cotangents[0], None


def _is_moved(old: Any, new: Any) -> bool:
    before, after = getattr(old, "t1", None), getattr(new, "t1", None)
    return after is not before and bool(after != before)
