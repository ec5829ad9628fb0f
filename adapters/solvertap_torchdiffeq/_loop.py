"""The start and the end of a solve of torchdiffeq: the loop around its steps, torchdiffeq's or the user's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from torchdiffeq._impl import misc, rk_common

from solvertap import unobserved
from solvertap.adapting import Adapter, Patches, Solve, open_solve
from solvertap.errors import AlignError, CheckpointError, FixedStepError
from solvertap_torch.backward import refuse_without_gradient
from solvertap_torch.random_layers import random_layers

from ._counted import divide
from ._ending import end, fail, give_back
from ._field import TappedField
from ._method import Method, host_tolerances, name_of
from ._path import settle_last
from ._shape import Shape
from ._subclasses import odeint_module


def begin(adapter: Adapter, patches: Patches, solver: Any) -> TappedField | None:
    """Opens a solve, refuses what the solver cannot do and replaces its field; None if nobody observes."""
    solve = open_solve(adapter, like=getattr(solver, "y0", None))
    if solve is None:
        return None
    solve.method = name_of(solver)
    shape = Shape.of(type(solver))
    refuse_without_gradient(solve, "odeint_adjoint", "odeint", unreplayable=_unreplayable(solver, shape))
    if not shape.seen:
        refuse_unseen_steps(solver, solve)
    method = Method.of(solver) if isinstance(solver, rk_common.RKAdaptiveStepsizeODESolver) else None
    if method is not None and solve.measured:
        solve.check_tolerances(*host_tolerances(solver), solver.y0)
    name = _field_name(solver)
    field = None if name is None else getattr(solver, name)
    field = field.field if type(field) is TappedField else field
    if solve.trace_wanted:
        solve.random_layers = random_layers(field)
        divide(solve, field, getattr(solver, "y0", None))
    tapped = TappedField(field, solve, getattr(solver, "y0", None), method, patches, shape)
    tapped.name = name
    if name is None:
        solve.counts.evaluations = None
    else:
        setattr(solver, name, tapped)
    return tapped


def tapped_loop(adapter: Adapter, patches: Patches, integrate: Callable[..., Any]) -> Callable[..., Any]:
    """The `integrate` or `integrate_until_event` of an adaptive or unknown solver, tapped."""

    @wraps(integrate)
    def tapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        # A method that calls the same method of its base class makes one solve.
        field = None if is_running(self) else begin(adapter, patches, self)
        if field is None:
            return integrate(self, *args, **kwargs)
        vars(self)[_RUNNING] = True
        try:
            # A solve inside the field is part of the field. Where steps are tapped, each step enters `unobserved`.
            run = integrate if field.shape.seen else partial(unobserved().call, integrate)
            result = run(self, *args, **kwargs)
            return _ended(self, field, result)
        except BaseException:
            fail(self, field)
            raise
        finally:
            vars(self).pop(_RUNNING, None)
            give_back(self, field)

    return tapped


_RUNNING = "_solvertap_running"


def is_running(solver: Any) -> bool:
    """Whether a tapped loop of the solver is running."""
    return _RUNNING in vars(solver)


def check_outer_loop(field: TappedField, t: Any) -> None:
    """For a solve without a tapped loop: notes the end of `odeint_dense`, refuses optional terms in any other loop."""
    dense = getattr(odeint_module.odeint_dense, "__code__", None)
    if sys._getframe(2).f_code is dense:
        field.end = t[-1].detach()
        return
    solve = field.solve
    if solve.terms and all(term.optional for term in solve.terms):
        solve.refuse(
            FixedStepError(
                "`regularize` found a solver of torchdiffeq that is stepped by a loop outside of its class, and "
                "cannot add a penalty to what that loop returns. Solve by `odeint`, or `observe` the loop."
            ),
            sampled=True,
        )


def _ended(solver: Any, field: TappedField, result: Any) -> Any:
    solve = field.solve
    if not field.detached:
        settle_last(field)
        if solve.stats[1:3] == (0, 0) and solve.counts.evaluations != field.before:
            refuse_unseen_steps(solver, solve)
            solve.closed = True
    return solve.through(result) if end(field) else result


def refuse_unseen_steps(solver: Any, solve: Solve) -> None:
    """Refuses a request that needs the steps of a solver whose steps cannot be seen."""
    if solve.align:
        solve.abandon()
        raise AlignError(
            f"`observe(align=True)` was asked of `{type(solver).__name__}`, whose "
            "steps cannot be seen. Use a method of torchdiffeq's own such as "
            '`method="dopri5"`, or leave it out.'
        )
    if solve.checkpoint:
        solve.abandon()
        raise CheckpointError(
            f"`observe(checkpoint=True)` was asked of `{type(solver).__name__}`, whose steps cannot be "
            "seen, so they cannot be recomputed. Use a method of torchdiffeq's own such as "
            '`method="dopri5"`, or leave it out.'
        )
    solve.refuse(
        FixedStepError(
            f"A penalty was asked of `{type(solver).__name__}`, which takes its steps in its own way, so that "
            "they cannot be seen. Take them by `rk_common._runge_kutta_step(self.func, ...)` in `_adaptive_step` (of a "
            'fixed grid: in `_step_func`), or use a method of torchdiffeq\'s own such as `method="dopri5"`. '
            "`observe()` without a term still counts."
        ),
        sampled=True,
    )


def _unreplayable(solver: Any, shape: Shape) -> str:
    """Why the steps of a solver cannot be taken again, if so."""
    if shape.plain and isinstance(solver, rk_common.RKAdaptiveStepsizeODESolver):
        return ""
    return f"`{type(solver).__name__}` takes its steps in its own way"


def _field_name(solver: Any) -> str | None:
    """The attribute with a solver's field: `func`, or any that holds what odeint.py has wrapped the field in."""
    if hasattr(solver, "func"):
        return "func"
    return next((name for name, value in vars(solver).items() if isinstance(value, misc._PerturbFunc)), None)
