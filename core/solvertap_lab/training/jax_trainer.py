"""Training in JAX, for diffrax."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from solvertap import Stats, Trace, budget, observe
from solvertap.observing.budget_state import BudgetState

from ..problems.problem import Arrays
from .budgeted import budgeted_gradient
from .diffrax_solve import diffrax_solve
from .jax_key import JaxKey, key_of
from .rivals import rival_solve
from .trainer import Setting, Use
from .trajectories import apart, of_prediction, repeated

_OPTIMISERS: dict[str, Any] = {
    "adam": optax.adam,
    "adamax": optax.adamax,
    "momentum": partial(optax.sgd, momentum=0.9),
}


class JaxTrainer:
    """A model in JAX, its steps compiled once.

    Args:
        setting: how it is trained.
        parameters: its initial weights.
    """

    def __init__(self, setting: Setting, parameters: Arrays) -> None:
        self.setting = setting
        self.dtype = np.float64 if setting.precision == 64 else np.float32
        jax.config.update("jax_enable_x64", setting.precision == 64)  # type: ignore[no-untyped-call]  # jax's own
        self.parameters = jax.tree.map(jnp.asarray, dict(parameters))
        self.key = jax.random.key(setting.seed)
        spec = setting.problem.optimiser
        rate = lambda k: spec.rate / (1 + spec.decay * (k + 1))  # noqa: E731  # a schedule, as optax calls it
        self.optimiser = _OPTIMISERS[spec.kind](rate)
        self.optimiser_state = self.optimiser.init(self.parameters)
        self.budget_state: BudgetState = jax.tree.map(jnp.asarray, budget.init())
        self._step: Any = jax.jit(self._update)
        self._predict: Any = jax.jit(partial(self._solved, trace=False))
        self._trace: Any = jax.jit(partial(self._solved, trace=True))

    def prepare(self, batch: Arrays, weights: tuple[float, ...]) -> float:
        started = time.perf_counter()
        arguments = self.parameters, self.optimiser_state, self._batch(batch), self._traced(weights), self.key
        self._step = self._step.lower(*arguments, self.budget_state).compile()
        return time.perf_counter() - started

    def step(self, batch: Arrays, weights: tuple[float, ...]) -> tuple[float, Stats]:
        self.key, key = jax.random.split(self.key)
        self.parameters, self.optimiser_state, task, stats, self.budget_state = self._step(
            self.parameters, self.optimiser_state, self._batch(batch), self._traced(weights), key, self.budget_state
        )
        return float(task), stats  # a number only when the step is done, which is what its time is taken by

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        leaves = jax.tree.leaves((self.parameters, self.optimiser_state, self.budget_state))
        return {str(k): np.asarray(leaf) for k, leaf in enumerate(leaves)} | {
            "key": np.asarray(jax.random.key_data(self.key))
        }

    def restore(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
        fresh, structure = jax.tree.flatten((self.parameters, self.optimiser_state, self.budget_state))
        leaves = [jnp.asarray(state[str(k)]) for k in range(len(fresh))]
        self.parameters, self.optimiser_state, self.budget_state = jax.tree.unflatten(structure, leaves)
        self.key = jax.random.wrap_key_data(jnp.asarray(state["key"]))

    def weights(self) -> Arrays:
        return {name: np.array(parameter) for name, parameter in self.parameters.items()}

    def use(self, weights: Arrays) -> None:
        self.parameters = jax.tree.map(jnp.asarray, weights)

    def predict(self, batch: Arrays, use: Use = "test") -> tuple[float, Stats]:
        score, stats, _ = self._predict(self.parameters, self._batch(batch), key_of(self.key, use))
        return float(score), jax.tree.map(int, stats)

    def trace(self, batch: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        trace: Trace = self._trace(self.parameters, self._batch(batch), key_of(self.key, "test"))[2]
        return trace.numpy()

    def _update(self, parameters: Any, state: Any, batch: Any, weights: Any, key: Any, found: BudgetState) -> Any:
        setting, problem = self.setting, self.setting.problem

        def losses(parameters: Any) -> Any:
            draws = JaxKey(key, self.dtype)
            encoded = problem.encode(parameters, batch)
            y0 = repeated(problem.initial_state(parameters, encoded, draws), problem.trajectories)
            values: tuple[Any, ...] = ()
            weighted = setting.weighted(weights) if setting.budget is None else setting.budget.term
            with observe(weighted, align=setting.align, key=key) as seen:
                if setting.rival is None:
                    states = diffrax_solve(setting, parameters, y0, key)
                else:
                    states, values = rival_solve(setting, parameters, y0, key)
            task = problem.loss(parameters, apart(states, problem.trajectories), encoded, draws)
            penalty = seen.penalty if setting.terms else sum(w * x for w, x in zip(weights, values, strict=True))
            return (task, penalty), seen.stats

        def loss(parameters: Any) -> Any:
            (task, penalty), stats = losses(parameters)
            return task + penalty, (task, stats)

        if setting.budget is None:
            gradient, (task, stats) = jax.grad(loss, has_aux=True)(parameters)
        else:
            gradient, task, stats, found = budgeted_gradient(setting.budget, losses, parameters, found)
        updates, state = self.optimiser.update(gradient, state)
        return optax.apply_updates(parameters, updates), state, task, stats, found

    def _solved(self, parameters: Any, batch: Any, key: Any, *, trace: bool) -> Any:
        problem, draws = self.setting.problem, JaxKey(key, self.dtype)
        count = of_prediction(problem)
        batch = problem.encode(parameters, batch)
        y0 = repeated(problem.initial_state(parameters, batch, draws), count)
        with observe(align=self.setting.align, trace=trace) as seen:
            states = diffrax_solve(self.setting, parameters, y0, key)
        score = problem.score(parameters, apart(states, count), batch, draws)
        return score, seen.stats, seen.trace if trace else None

    def _traced(self, weights: tuple[float, ...]) -> tuple[jax.Array, ...]:
        return tuple(jnp.asarray(weight) for weight in weights)

    def _batch(self, batch: Arrays) -> dict[str, Any]:
        return {name: jnp.asarray(value, dtype=self.dtype) for name, value in batch.items()}
