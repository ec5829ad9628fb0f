"""Training in JAX, for diffrax."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import lineax
import numpy as np
import optax

from ..blocks import observe
from ..statistics import Stats
from ..trace import Trace
from .problem import FIRST_STEP
from .trainer import Arrays, Setting

_MAX_STEPS = 1024


class JaxTrainer:
    """A model in JAX, its steps compiled once.

    Args:
        setting: how it is trained.
        parameters: its initial weights.
    """

    def __init__(self, setting: Setting, parameters: Arrays) -> None:
        self.setting = setting
        jax.config.update("jax_enable_x64", setting.precision == 64)  # type: ignore[no-untyped-call]  # jax's own
        self.parameters = jax.tree.map(jnp.asarray, dict(parameters))
        self.key = jax.random.key(setting.seed)
        spec = setting.problem.optimiser
        rate = lambda k: spec.rate / (1 + spec.decay * (k + 1))  # noqa: E731  # a schedule, as optax calls it
        self.optimiser = optax.adam(rate) if spec.kind == "adam" else optax.sgd(rate, momentum=0.9)
        self.state = self.optimiser.init(self.parameters)
        self._step: Any = jax.jit(self._update)
        self._predict: Any = jax.jit(partial(self._solved, trace=False))
        self._trace: Any = jax.jit(partial(self._solved, trace=True))

    def prepare(self, batch: Arrays) -> float:
        started = time.perf_counter()
        weights = tuple(jnp.asarray(0.0) for _ in self.setting.terms)
        arguments = self.parameters, self.state, self._batch(batch), weights, self.key
        self._step = self._step.lower(*arguments).compile()
        return time.perf_counter() - started

    def step(self, batch: Arrays, weights: tuple[float, ...]) -> tuple[float, Stats]:
        self.key, key = jax.random.split(self.key)
        traced = tuple(jnp.asarray(weight) for weight in weights)
        self.parameters, self.state, task, stats = self._step(
            self.parameters, self.state, self._batch(batch), traced, key
        )
        return float(task), stats

    def predict(self, batch: Arrays) -> tuple[float, Stats]:
        score, stats, _ = self._predict(self.parameters, self._batch(batch), self.key)
        return float(score), jax.tree.map(int, stats)

    def trace(self, batch: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        trace: Trace = self._trace(self.parameters, self._batch(batch), self.key)[2]
        return trace.numpy()

    def _update(self, parameters: Any, state: Any, batch: Any, weights: Any, key: Any) -> Any:
        problem = self.setting.problem

        def loss(parameters: Any) -> Any:
            with observe(self.setting.weighted(weights), align=self.setting.align) as seen:
                states = self._states(parameters, batch, key)
            task = problem.loss(parameters, states, batch)
            return task + seen.penalty if weights else task, (task, seen.stats)

        gradient, (task, stats) = jax.grad(loss, has_aux=True)(parameters)
        updates, state = self.optimiser.update(gradient, state)
        return optax.apply_updates(parameters, updates), state, task, stats

    def _solved(self, parameters: Any, batch: Any, key: Any, *, trace: bool) -> Any:
        with observe(align=self.setting.align, trace=trace) as seen:
            states = self._states(parameters, batch, key)
        return self.setting.problem.score(parameters, states, batch), seen.stats, seen.trace if trace else None

    def _states(self, parameters: Any, batch: Any, key: Any) -> Any:
        problem, tolerance = self.setting.problem, self.setting.tolerance
        y0 = problem.initial_state(batch)
        times = jnp.asarray(problem.times, dtype=y0.dtype)
        drift = diffrax.ODETerm(lambda t, y, _: problem.field(parameters, t, y))
        if problem.stochastic:
            path = diffrax.VirtualBrownianTree(times[0], times[-1], 1e-4, y0.shape, key)
            diffusion = lambda t, y, _: lineax.DiagonalLinearOperator(problem.diffusion(parameters, t, y))  # noqa: E731
            terms: Any = diffrax.MultiTerm(drift, diffrax.ControlTerm(diffusion, path))
            solver: Any = diffrax.HalfSolver(diffrax.Heun())
            controller = diffrax.PIDController(rtol=tolerance, atol=tolerance, pcoeff=0.1, icoeff=0.3)
        else:
            terms, solver = drift, diffrax.Dopri5()
            controller = diffrax.PIDController(rtol=tolerance, atol=tolerance)
        return diffrax.diffeqsolve(
            terms,
            solver,
            times[0],
            times[-1],
            FIRST_STEP if problem.stochastic else None,
            y0,
            saveat=diffrax.SaveAt(ts=times),
            stepsize_controller=controller,
            max_steps=_MAX_STEPS,
        ).ys

    def _batch(self, batch: Arrays) -> dict[str, Any]:
        dtype = np.float64 if self.setting.precision == 64 else np.float32
        return {name: jnp.asarray(value, dtype=dtype) for name, value in batch.items()}
