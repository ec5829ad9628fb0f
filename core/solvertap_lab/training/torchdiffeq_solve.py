"""A neural ODE in torchdiffeq."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torchdiffeq import odeint, odeint_adjoint

from .solvers import ODES
from .trainer import Setting


def torchdiffeq_solve(
    setting: Setting,
    parameters: dict[str, torch.Tensor],
    y0: torch.Tensor,
    options: dict[str, Any] | None = None,
    *,
    adjoint: bool = False,
) -> torch.Tensor:
    """The solve of a neural ODE in torchdiffeq, with options of its solver; by its adjoint if asked."""
    solve = partial(odeint_adjoint, adjoint_params=tuple(parameters.values())) if adjoint else odeint
    states: Any = solve(
        lambda t, y: setting.problem.field(parameters, t, y),
        y0,
        torch.tensor(setting.problem.times, dtype=y0.dtype),
        rtol=setting.tolerance,
        atol=setting.tolerance,
        method=setting.solver or ODES["torchdiffeq"][0],
        options={"first_step": setting.problem.first_step} | (options or {}),
    )
    return cast(torch.Tensor, states)
