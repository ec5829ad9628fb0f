"""The end of a solve of torchdiffeq: its solver gets its own attributes back."""

from __future__ import annotations

from typing import Any

from ._field import TappedField
from ._interpolation import Fit


def give_back(solver: Any, field: TappedField) -> None:
    """Gives a solver its own field and norm back."""
    if field.name is not None:
        setattr(solver, field.name, field.field)
    if field.norm is not None:
        solver.norm = field.norm


def fail(solver: Any, field: TappedField) -> None:
    """Abandons a failed solve, and drops the interpolation that nobody will read."""
    field.solve.abandon()
    state = vars(solver).get("rk_state")
    fit = state[-1] if isinstance(state, tuple) and state else None
    if isinstance(fit, Fit):
        fit.forget()


def end(field: TappedField) -> bool:
    """Ends the solve of a field; False if steps are missing, because another thread or the field has detached."""
    with field.solve as solve:
        if field.detached:
            solve.abandon()
            return False
        solve.finish()
    return True


def end_dense(solver: Any, field: TappedField, state: Any) -> Any:
    """The state after a step of `odeint_dense`, which stops after the last time.

    odeint.py::odeint_dense stacks the coefficients of all steps, so a backward pass through any of them reaches those
    of the last step, with zeros if need be. An injection there is reached once, wherever the solution is read.
    """
    if state.t1 < field.end:
        return state
    give_back(solver, field)
    return state._replace(interp_coeff=field.solve.through(state.interp_coeff)) if end(field) else state
