"""A neural ODE in torchode: every sample takes steps of its own."""

from __future__ import annotations

from typing import Any, cast

import torch
import torchode

from .solvers import ODES
from .trainer import Setting

_METHODS = dict(zip(ODES["torchode"], (torchode.Dopri5, torchode.Tsit5), strict=True))
_torchode: Any = torchode  # its annotations are types of its own, which no tensor has


def torchode_solve(
    setting: Setting, parameters: dict[str, torch.Tensor], y0: torch.Tensor, first_step: float | None = None
) -> torch.Tensor:
    """The solve of a neural ODE in torchode, of shape (times, batch, features)."""
    times = torch.tensor(setting.problem.times, dtype=y0.dtype).expand(len(y0), -1)
    term = _torchode.ODETerm(lambda t, y: setting.problem.field(parameters, t, y))
    controller = _torchode.IntegralController(setting.tolerance, setting.tolerance, term=term)
    method: Any = _METHODS[setting.solver or ODES["torchode"][0]]
    adjoint = _torchode.AutoDiffAdjoint(method(term), controller)
    first = setting.problem.first_step if first_step is None else first_step
    problem = _torchode.InitialValueProblem(y0, t_eval=times)
    solution: Any = adjoint.solve(problem, dt0=None if first is None else torch.full_like(y0[:, 0], first))
    return cast(torch.Tensor, solution.ys.transpose(0, 1))
