"""Training in torch, for torchdiffeq and for torchsde."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from solvertap.observing.observe import observe
from solvertap.solves.stats import Stats

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

    def prepare(self, batch: Arrays, weights: tuple[float, ...]) -> float:  # noqa: ARG002  # nothing is compiled
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
