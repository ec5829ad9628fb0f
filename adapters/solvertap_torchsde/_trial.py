"""The problem on which `solvertap doctor` checks the torchsde adapter."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torchsde import BrownianInterval, sdeint

from solvertap_torch.trial import TorchTrial


class _SDE:
    noise_type, sde_type = "diagonal", "stratonovich"

    def __init__(self, parameters: Any) -> None:
        self.weights = parameters.reshape(2, 2)

    def f(self, t: Any, y: Any) -> Any:
        return 3 * torch.tanh(y @ self.weights) + torch.sin(20 * t)

    def g(self, t: Any, y: Any) -> Any:  # noqa: ARG002  # torchsde's signature
        return 0.3 * torch.sin(y @ self.weights.T)


class TorchsdeTrial(TorchTrial):
    """A nonlinear drift and diffusion, by `sdeint` and Heun's method, always on the same Brownian path."""

    rtol = atol = 3e-3

    def __init__(self, device: str | None) -> None:
        super().__init__(device)
        # A halfway tree: the path does not depend on the order of the queries.
        self.path = BrownianInterval(
            self.t0,
            self.t1,
            size=tuple(self.y0.shape),
            dtype=self.y0.dtype,
            device=self.y0.device,
            entropy=7,
            tol=1e-5,
            halfway_tree=True,
        )

    def solve(self, parameters: Any, y0: Any, t0: Any, t1: Any, *, adaptive: bool) -> Any:
        times = torch.tensor([t0, t1], dtype=y0.dtype, device=y0.device)
        h = float(t1 - t0)
        # One step, cut at the last time; `dt_min` has it accepted with any error.
        steps: dict[str, Any] = {"dt": 0.3 * h} if adaptive else {"dt": 2 * h, "dt_min": 2 * h}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Hitting minimum allowed step size")
            return sdeint(
                _SDE(parameters),
                y0,
                times,
                bm=self.path,
                method="heun",
                adaptive=True,
                rtol=self.rtol,
                atol=self.atol,
                **steps,
            )[-1]
