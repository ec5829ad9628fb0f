"""A neural SDE in torchsde."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torchsde import BrownianInterval, sdeint, sdeint_adjoint

from .solvers import SDES
from .trainer import Setting


def torchsde_solve(
    setting: Setting,
    parameters: dict[str, torch.Tensor],
    y0: torch.Tensor,
    first_step: float | None = None,
    *,
    adjoint: bool = False,
) -> torch.Tensor:
    """The solve of a neural SDE in torchsde, in the sense of Stratonovich; torch draws the Brownian path."""
    times = torch.tensor(setting.problem.times, dtype=y0.dtype)
    # torchsde 0.2.6 _brownian/brownian_interval.py: by default the entropy comes from NumPy, which is not seeded.
    entropy = int(torch.randint(2**31 - 1, ()))
    solve = partial(sdeint_adjoint, adjoint_params=tuple(parameters.values())) if adjoint else sdeint
    states: Any = solve(
        _DiagonalSDE(setting, parameters),
        y0,
        times,
        bm=BrownianInterval(times[0], times[-1], tuple(y0.shape), dtype=y0.dtype, entropy=entropy),
        method=setting.solver or SDES["torchsde"][0],
        dt=cast(float, setting.problem.first_step if first_step is None else first_step),  # every SDE has one
        adaptive=True,
        rtol=setting.tolerance,
        atol=setting.tolerance,
    )
    return cast(torch.Tensor, states)


class _DiagonalSDE(torch.nn.Module):
    noise_type = "diagonal"
    sde_type = "stratonovich"

    def __init__(self, setting: Setting, parameters: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.problem, self.weights = setting.problem, parameters

    def f(self, t: torch.Tensor, y: torch.Tensor) -> Any:
        return self.problem.field(self.weights, t, y)

    def g(self, t: torch.Tensor, y: torch.Tensor) -> Any:
        return self.problem.diffusion(self.weights, t, y)
