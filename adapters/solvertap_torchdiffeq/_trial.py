"""The problem on which `solvertap doctor` checks the torchdiffeq adapter."""

from __future__ import annotations

from typing import Any

import torch
from torchdiffeq import odeint

from solvertap_torch.trial import TorchTrial


class TorchdiffeqTrial(TorchTrial):
    """A nonlinear field with a kink in its forcing, by `odeint` and dopri5."""

    def solve(self, parameters: Any, y0: Any, t0: Any, t1: Any, *, adaptive: bool) -> Any:
        def field(t: Any, y: Any) -> Any:
            return 4 * torch.tanh(y @ parameters.reshape(2, 2)) + 20 * torch.relu(t - 0.5) - y

        times = torch.tensor([t0, t1], dtype=y0.dtype, device=y0.device)
        h = float(t1 - t0)
        # One step as long as the interval; `min_step` has it accepted with any error.
        options: dict[str, Any] = {"first_step": h / 2} if adaptive else {"first_step": h, "min_step": 2 * h}
        if not adaptive:
            options["step_t"] = times[-1:]
        return odeint(field, y0, times, rtol=self.rtol, atol=self.atol, method="dopri5", options=options)[-1]
