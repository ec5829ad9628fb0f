"""The start and the end of a solve by `odeint` or `odeint_symplectic`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch

from solvertap import unobserved
from solvertap.adapting import Adapter, Patches, Solve, open_solve
from solvertap_torch import refuse_without_gradient
from solvertap_torch.random_layers import random_layers

from ._field import TappedField
from ._fixed import refuse_fixed
from ._method import ADJOINT, class_of, is_adaptive, name_of


def tapped_odeint(adapter: Adapter, patches: Patches, original: Callable[..., Any]) -> Callable[..., Any]:
    """`odeint` or `odeint_symplectic`, tapped."""

    @wraps(original)
    def odeint(f: Any, x: Any, t_span: Any, solver: Any, atol: Any, rtol: Any, *others: Any) -> Any:
        solve = begin(adapter, x, name_of(solver))
        if solve is None:
            return original(f, x, t_span, solver, atol, rtol, *others)
        _refuse(solve, solver, x, rtol, atol)
        if solve.trace_wanted:
            solve.random_layers = random_layers(f)
        undone = patches.undone
        with solve, unobserved():  # a solve inside the field is part of the field
            field = TappedField(f, solve)
            result = original(field, x, t_span, solver, atol, rtol, *others)
            if patches.undone != undone and not field.taken:  # detached before the loop began
                solve.abandon()
        return solve.through(result)

    return odeint


def begin(adapter: Adapter, x: Any, method: str) -> Solve | None:
    """Opens a solve from a state; None if nobody observes, or if torchdyn is about to refuse the state."""
    parts = tuple(x.values()) if isinstance(x, dict) else (x,)
    if not parts or not all(isinstance(part, torch.Tensor) for part in parts):
        return None
    solve = open_solve(adapter, like=parts if isinstance(x, dict) else x)
    if solve is not None:
        solve.method = method
    return solve


def _refuse(solve: Solve, solver: Any, x: Any, rtol: Any, atol: Any) -> None:
    """Refuses what the solver cannot do, before it begins."""
    if not is_adaptive(solver):
        refuse_fixed(solve, class_of(solver), x)
        return
    refuse_without_gradient(solve, *ADJOINT)
    if solve.measured:
        solve.check_tolerances(rtol, atol, x)
