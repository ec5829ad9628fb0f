"""The problem on which `solvertap doctor` checks the torchode adapter."""

from __future__ import annotations

from typing import Any

import torch
from torchode import AutoDiffAdjoint, Dopri5, FixedStepController, InitialValueProblem, IntegralController, ODETerm

from solvertap_torch.trial import TorchTrial


class TorchodeTrial(TorchTrial):
    """A nonlinear field with a kink in its forcing, a batch of one by `Dopri5`."""

    def __init__(self, device: str | None) -> None:
        super().__init__(device)
        self.y0 = self.y0.reshape(1, 4)

    def solve(self, parameters: Any, y0: Any, t0: Any, t1: Any, *, adaptive: bool) -> Any:
        def field(t: Any, y: Any) -> Any:
            pairs = y.reshape(-1, 2)
            slope = 4 * torch.tanh(pairs @ parameters.reshape(2, 2)) - pairs
            return slope.reshape(-1, 4) + 20 * torch.relu(t - 0.5)[:, None]

        start, end = (torch.full((1,), float(t), dtype=y0.dtype, device=y0.device) for t in (t0, t1))
        term = ODETerm(field)
        controller: Any = FixedStepController()
        if adaptive:
            controller = IntegralController(self.atol, self.rtol, term=term).to(y0.device)
            controller.atol, controller.rtol = controller.atol.double(), controller.rtol.double()
        # torchode differentiates its step sizes by default; a term cuts that path, and the gradient differs by it.
        adjoint = AutoDiffAdjoint(Dopri5(term), controller, backprop_through_step_size_control=False)
        dt = (end - start) / 2 if adaptive else end - start
        return adjoint.solve(InitialValueProblem(y0, start, end), dt0=dt).ys[:, -1]
