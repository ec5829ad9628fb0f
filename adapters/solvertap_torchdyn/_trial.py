"""The problem on which `solvertap doctor` checks the torchdyn adapter."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torchdyn.numerics import odeint
from torchdyn.numerics.solvers.ode import DormandPrince45

from solvertap.adapting import Patches
from solvertap_torch import TorchTrial

odeint_module: Any = import_module("torchdyn.numerics.odeint")


class TorchdynTrial(TorchTrial):
    """A nonlinear field with a kink in its forcing, by `odeint` and dopri5."""

    def solve(self, parameters: Any, y0: Any, t0: Any, t1: Any, *, adaptive: bool) -> Any:
        def field(t: Any, y: Any) -> Any:
            return 4 * torch.tanh(y @ parameters.reshape(2, 2)) + 20 * torch.relu(t - 0.5) - y

        times = torch.tensor([t0, t1], dtype=y0.dtype, device=y0.device)
        # One step as long as the interval: cut at its end, and accepted with any error.
        first, tolerance = ((times[1] - times[0]) / 2, self.rtol) if adaptive else (2 * (times[1] - times[0]), 1e9)
        # odeint.py has no option for the first step, and looks its rule up as a module global.
        patches = Patches()
        patches.replace(odeint_module, "init_step", lambda _: lambda *_: first)
        try:
            return odeint(field, y0, times, _dopri5(y0), atol=tolerance, rtol=tolerance)[1][-1]
        finally:
            patches.undo()


def _dopri5(y0: Any) -> Any:
    solver: Any = DormandPrince45(y0.dtype)
    # templates.py has them in float32, to which they would round every step size.
    for name in ("safety", "min_factor", "max_factor"):
        setattr(solver, name, getattr(solver, name).to(y0.dtype))
    return solver
