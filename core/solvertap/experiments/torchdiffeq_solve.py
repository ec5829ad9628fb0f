"""A neural ODE in torchdiffeq."""

from __future__ import annotations

from typing import Any, cast

import torch
from torchdiffeq import odeint

from .trainer import Setting


def torchdiffeq_solve(setting: Setting, parameters: dict[str, torch.Tensor], y0: torch.Tensor) -> torch.Tensor:
    """The solve of a neural ODE in torchdiffeq."""
    states: Any = odeint(
        lambda t, y: setting.problem.field(parameters, t, y),
        y0,
        torch.tensor(setting.problem.times, dtype=y0.dtype),
        rtol=setting.tolerance,
        atol=setting.tolerance,
        method="dopri5",
    )
    return cast(torch.Tensor, states)
