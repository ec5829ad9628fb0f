"""Where a solve of torchdiffeq ends: what it has exchanged in its solver is given back."""

from __future__ import annotations

from typing import Any

from ._field import TappedField
from ._interpolation import Fit


def give_back(solver: Any, field: TappedField) -> None:
    """Gives a solver its own field back, and its own norm."""
    if field.name is not None:
        setattr(solver, field.name, field.field)
    if field.norm is not None:
        solver.norm = field.norm


def fail(solver: Any, field: TappedField) -> None:
    """Says that the solve of a field has failed: nobody will read what it was about to fit."""
    field.solve.abandon()
    state = vars(solver).get("rk_state")
    fit = state[-1] if isinstance(state, tuple) and state else None
    if isinstance(fit, Fit):
        fit.forget()


def end(field: TappedField) -> bool:
    """Ends the solve of a field; False where steps are missing: detached meanwhile, by another thread or the field."""
    with field.solve as solve:
        if field.missed:
            solve.abandon()
            return False
        solve.finish()
    return True


def end_dense(solver: Any, field: TappedField, state: Any) -> Any:
    """The state after a step of `odeint_dense`, which stops once it is past the last time.

    odeint.py::odeint_dense stacks the coefficients of all steps, so that a backward pass through any of them goes
    through those of the last one, if with zeros: what is put behind these is reached once, wherever the solution is
    read.
    """
    if state.t1 < field.end:
        return state
    give_back(solver, field)
    return state._replace(interp_coeff=field.solve.through(state.interp_coeff)) if end(field) else state
