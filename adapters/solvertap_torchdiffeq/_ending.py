"""Where a solve of torchdiffeq ends: what it has exchanged in its solver is given back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._field import TappedField
from ._interpolation import Fit

ENDS = "_solvertap_ends"
"""An attribute of a solver while a tap sees where its solve ends; of `odeint_dense` none does."""


def tapped_end(integrate: Callable[..., Any]) -> Callable[..., Any]:
    """The whole of a solve, at whose end the solver gets its own field back."""

    def tapped(self: Any, *args: Any) -> Any:
        vars(self)[ENDS] = True
        try:
            result = integrate(self, *args)
        except BaseException:
            field = given_back(self)
            if field is not None:
                field.solve.abandon()
                *_, fit = vars(self).get("rk_state", (None,))
                if isinstance(fit, Fit):
                    fit.forget()
            raise
        finally:
            vars(self).pop(ENDS, None)
        field = given_back(self)
        if field is None:
            return result
        finish(field)
        return field.solve.through(result)

    return tapped


def given_back(solver: Any) -> TappedField | None:
    """The field of an observed solve that is over; its solver has its own again."""
    field = solver.func
    if type(field) is not TappedField:
        return None
    solver.func = field.field
    if field.norm is not None:
        solver.norm = field.norm
    return field


def finish(field: TappedField) -> None:
    """Says that the solve of a field has come to its end."""
    with field.solve as solve:
        if field.missed:  # detached meanwhile, by another thread or by the field
            solve.abandon()
