"""Training in torch, for torchdiffeq and for torchsde."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch

from ..observation import observe
from ..statistics import Stats
from .trainer import Arrays, Setting

Solve = Callable[[Setting, dict[str, torch.Tensor], torch.Tensor], torch.Tensor]


class TorchTrainer:
    """A model in torch.

    Args:
        setting: how it is trained.
        parameters: its initial weights.
        solve: maps the setting, the parameters and the initial state to the states at `Problem.times`.
    """

    def __init__(self, setting: Setting, parameters: Arrays, solve: Solve) -> None:
        self.setting = setting
        self.dtype = torch.float64 if setting.precision == 64 else torch.float32
        self.parameters = {name: self._tensor(value).requires_grad_() for name, value in parameters.items()}
        self.solve = solve
        torch.manual_seed(setting.seed)
        spec = setting.problem.optimiser
        weights = list(self.parameters.values())
        self.optimiser = (
            torch.optim.Adam(weights, lr=spec.rate)
            if spec.kind == "adam"
            else torch.optim.SGD(weights, lr=spec.rate, momentum=0.9)
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, lambda k: 1 / (1 + spec.decay * (k + 1)))

    def prepare(self, batch: Arrays) -> float:  # noqa: ARG002  # nothing is compiled
        return 0.0

    def step(self, batch: Arrays, weights: tuple[float, ...]) -> tuple[float, Stats]:
        problem, tensors = self.setting.problem, self._batch(batch)
        self.optimiser.zero_grad()
        with observe(self.setting.weighted(weights), align=self.setting.align) as seen:
            states = self.solve(self.setting, self.parameters, problem.initial_state(tensors))
        task = problem.loss(self.parameters, states, tensors)
        (task + seen.penalty if weights else task).backward()
        self.optimiser.step()
        self.schedule.step()
        return task.item(), seen.stats

    @torch.no_grad()
    def predict(self, batch: Arrays) -> tuple[float, Stats]:
        problem, tensors = self.setting.problem, self._batch(batch)
        with observe(align=self.setting.align) as seen:
            states = self.solve(self.setting, self.parameters, problem.initial_state(tensors))
        return problem.score(self.parameters, states, tensors).item(), seen.stats

    @torch.no_grad()
    def trace(self, batch: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        with observe(align=self.setting.align, trace=True) as seen:
            self.solve(self.setting, self.parameters, self.setting.problem.initial_state(self._batch(batch)))
        return seen.trace.numpy()

    def _batch(self, batch: Arrays) -> dict[str, torch.Tensor]:
        return {name: self._tensor(value) for name, value in batch.items()}

    def _tensor(self, value: np.ndarray[Any, Any]) -> torch.Tensor:
        return torch.as_tensor(value, dtype=self.dtype)


def torchdiffeq_solve(setting: Setting, parameters: dict[str, torch.Tensor], y0: torch.Tensor) -> torch.Tensor:
    """The solve of a neural ODE in torchdiffeq."""
    from torchdiffeq import odeint

    states: Any = odeint(
        lambda t, y: setting.problem.field(parameters, t, y),
        y0,
        torch.tensor(setting.problem.times, dtype=y0.dtype),
        rtol=setting.tolerance,
        atol=setting.tolerance,
        method="dopri5",
    )
    return cast(torch.Tensor, states)


def torchsde_solve(setting: Setting, parameters: dict[str, torch.Tensor], y0: torch.Tensor) -> torch.Tensor:
    """The solve of a neural SDE in torchsde, in the sense of Stratonovich."""
    from torchsde import sdeint

    states: Any = sdeint(
        _DiagonalSDE(setting, parameters),
        y0,
        torch.tensor(setting.problem.times, dtype=y0.dtype),
        method="heun",
        dt=FIRST_STEP,
        adaptive=True,
        rtol=setting.tolerance,
        atol=setting.tolerance,
    )
    return cast(torch.Tensor, states)


FIRST_STEP = 0.01
"""The first step of every SDE solve: torchsde must be told one, and diffrax starts there by itself."""


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
