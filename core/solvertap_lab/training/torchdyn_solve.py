"""A neural ODE in torchdyn."""

from __future__ import annotations

from typing import Any, cast

import torch
from torchdyn.numerics import odeint

from .solvers import ODES
from .trainer import Setting


def torchdyn_solve(setting: Setting, parameters: dict[str, torch.Tensor], y0: torch.Tensor) -> torch.Tensor:
    """The solve of a neural ODE in torchdyn, which chooses its first step itself."""
    found: Any = odeint(
        lambda t, y: setting.problem.field(parameters, t, y),
        y0,
        torch.tensor(setting.problem.times, dtype=y0.dtype),
        solver=setting.solver or ODES["torchdyn"][0],
        atol=setting.tolerance,
        rtol=setting.tolerance,
        interpolator="4th",
    )
    return cast(torch.Tensor, found[1])
