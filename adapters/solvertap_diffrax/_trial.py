"""The problem on which `solvertap doctor` checks the diffrax adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import diffrax
import jax
import jax.numpy as jnp

from solvertap.adapting import Trial


class DiffraxTrial(Trial):
    """A nonlinear field with a kink in its forcing, by `diffeqsolve` and Dormand and Prince's method."""

    t0, t1 = 0.0, 1.0
    rtol = atol = 1e-5

    def __init__(self, device: str | None) -> None:
        self.device = None if device is None else jax.devices(device)[0]
        with self.environment():
            self.y0 = jnp.array([[1.0, -0.5], [0.3, 0.8]])
            self.parameters = jnp.array([1.2, -0.4, 0.7, 0.5])

    def solve(self, parameters: Any, y0: Any, t0: Any, t1: Any, *, adaptive: bool) -> Any:
        def field(t: Any, y: Any, parameters: Any) -> Any:
            return 4 * jnp.tanh(y @ parameters.reshape(2, 2)) + 20 * jax.nn.relu(t - 0.5) - y

        controller: Any = diffrax.PIDController(rtol=self.rtol, atol=self.atol)
        if not adaptive:
            controller = diffrax.StepTo(jnp.stack((jnp.asarray(t0), jnp.asarray(t1))))
        solution: Any = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            diffrax.Dopri5(),
            t0,
            t1,
            (t1 - t0) / 2 if adaptive else None,
            y0,
            parameters,
            stepsize_controller=controller,
            max_steps=64,
        )
        return solution.ys[-1]

    def differentiate(self, function: Callable[[Any], tuple[Any, Any]]) -> tuple[Any, Any]:
        gradient, more = jax.grad(function, has_aux=True)(self.parameters)
        return gradient, more

    def compiled(self, function: Any) -> Any:
        return jax.jit(function)

    @contextmanager
    def environment(self) -> Iterator[None]:
        with jax.enable_x64(True), jax.default_device(self.device):
            yield
