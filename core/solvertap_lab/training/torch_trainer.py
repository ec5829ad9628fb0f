"""Training in torch, for torchdiffeq and for torchsde."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

from solvertap import Observation, Stats, budget, observe
from solvertap.observing.budget_state import BudgetState

from ..problems.problem import Arrays
from .torch_key import TorchKey
from .torch_state import restore, state_of
from .trainer import Setting, Use
from .trajectories import apart, of_prediction, repeated

Tensors = dict[str, torch.Tensor]
Solve = Callable[[Setting, Tensors, torch.Tensor], torch.Tensor]

_OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
}


def of_slowest(stats: Stats) -> Stats:
    """The counts of a solve; where the samples of a batch take steps of their own, the largest of each count."""
    counts: list[Any] = [n if n is None or isinstance(n, int) else int(max(n)) for n in stats]
    return Stats(*counts)


@contextmanager
def _draws_of_its_own(use: Use) -> Iterator[None]:
    """A block whose Brownian paths depend on where training has left torch's generator, which stays there."""
    with torch.random.fork_rng(devices=()):
        if use == "validation":
            torch.default_generator.manual_seed(int(torch.randint(2**31 - 1, ())))
        yield


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
        self.parameters = {name: self._tensor(value).clone().requires_grad_() for name, value in parameters.items()}
        self.solve = solve
        self.budget_state = budget.init()
        torch.manual_seed(setting.seed)
        self.key = TorchKey(setting.seed, "training", self.dtype)
        spec = setting.problem.optimiser
        self.optimiser = _OPTIMISERS[spec.kind](list(self.parameters.values()), lr=spec.rate)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, lambda k: 1 / (1 + spec.decay * (k + 1)))

    def prepare(self, batch: Arrays, weights: tuple[float, ...]) -> float:  # noqa: ARG002  # nothing is compiled
        return 0.0

    def step(self, batch: Arrays, weights: tuple[float, ...]) -> tuple[float, Stats]:
        tensors = self._batch(batch)
        self.optimiser.zero_grad()
        wanted = self.setting.budget
        weighted = self.setting.weighted(weights) if wanted is None else wanted.at(self.budget_state)
        block = observe(weighted, align=self.setting.align)
        states, seen = self._solved(block, tensors, self.key, self.setting.problem.trajectories)
        task = self.setting.problem.loss(self.parameters, states, tensors, self.key)
        if wanted is not None:
            self.budget_state = wanted.update(self.budget_state, seen, task, self.parameters.values())
        (task if weighted is None else task + seen.penalty).backward()
        self.optimiser.step()
        self.schedule.step()
        return task.item(), of_slowest(seen.stats)

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        found = {f"budget/{name}": np.asarray(value) for name, value in self.budget_state._asdict().items()}
        return state_of(self.parameters, self.optimiser, self.schedule, self.key) | found

    def restore(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
        restore(state, self.parameters, self.optimiser, self.schedule, self.key)
        self.budget_state = BudgetState(*(np.float64(state[f"budget/{name}"]) for name in BudgetState._fields))

    def weights(self) -> Arrays:
        return {name: parameter.detach().numpy().copy() for name, parameter in self.parameters.items()}

    def use(self, weights: Arrays) -> None:
        for name, parameter in self.parameters.items():
            parameter.data.copy_(self._tensor(weights[name]))

    @torch.no_grad()
    def predict(self, batch: Arrays, use: Use = "test") -> tuple[float, Stats]:
        problem = self.setting.problem
        with _draws_of_its_own(use):
            tensors, key = self._batch(batch), self._key_of(use)
            states, seen = self._solved(observe(align=self.setting.align), tensors, key, of_prediction(problem))
            return problem.score(self.parameters, states, tensors, key).item(), of_slowest(seen.stats)

    @torch.no_grad()
    def trace(self, batch: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        block, count = observe(align=self.setting.align, trace=True), of_prediction(self.setting.problem)
        with _draws_of_its_own("test"):
            seen = self._solved(block, self._batch(batch), self._key_of("test"), count)[1]
        return max((trace.numpy() for trace in seen.trace.samples()), key=lambda columns: len(columns["t"]))

    def _solved(
        self, block: observe, batch: Mapping[str, Any], key: TorchKey, count: int | None
    ) -> tuple[torch.Tensor, Observation]:
        # Outside of the block: an encoder may solve something of its own, which is not to be penalized.
        y0 = repeated(self.setting.problem.initial_state(self.parameters, batch, key), count)
        with block as seen:
            states = self.solve(self.setting, self.parameters, y0)
        return apart(states, count), seen

    def _key_of(self, use: Use) -> TorchKey:
        return TorchKey(self.setting.seed, "prediction" if use == "test" else "validation", self.dtype)

    def _batch(self, batch: Arrays) -> Mapping[str, Any]:
        tensors = {name: self._tensor(value) for name, value in batch.items()}
        return self.setting.problem.encode(self.parameters, tensors)

    def _tensor(self, value: np.ndarray[Any, Any]) -> torch.Tensor:
        return torch.as_tensor(value, dtype=self.dtype)
