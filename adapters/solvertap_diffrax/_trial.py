"""How diffrax solves a problem that it is given, for `solvertap doctor` and the conformance kit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from solvertap.adapting import Trial

_BACKSOLVE: Any = diffrax.BacksolveAdjoint  # neither is typed
_settle: Any = jax.effects_barrier


class DiffraxTrial(Trial):
    """By `diffeqsolve` and Dormand and Prince's method."""

    reference = "torchdiffeq"

    def __init__(self, device: str | None = None) -> None:
        self.device = None if device is None else jax.devices(device)[0]

    def solve(
        self, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, *, rtol: float, atol: float, first: Any
    ) -> Any:
        controller = diffrax.PIDController(rtol=rtol, atol=atol)
        return self._solve(field, parameters, y0, t0, t1, first, controller)

    def one_step(self, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, *, rtol: float, atol: float) -> Any:
        del rtol, atol  # it is taken whatever its error is
        return self._solve(field, parameters, y0, t0, t1, None, diffrax.StepTo(jnp.stack([t0, t1])))

    def adjoint(
        self, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, *, rtol: float, atol: float, first: Any
    ) -> Any:
        controller = diffrax.PIDController(rtol=rtol, atol=atol)
        return self._solve(field, parameters, y0, t0, t1, first, controller, adjoint=_BACKSOLVE())

    def _solve(
        self, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, first: Any, controller: Any, **options: Any
    ) -> Any:
        solution: Any = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            diffrax.Dopri5(),
            t0,
            t1,
            first,
            y0,
            parameters,
            stepsize_controller=controller,
            max_steps=64,
            **options,
        )
        return solution.ys[-1]

    def array(self, values: Any) -> Any:
        return jnp.asarray(values)

    def differentiate(self, function: Callable[[Any], tuple[Any, Any]], parameters: Any) -> tuple[Any, Any]:
        gradient, more = jax.grad(function, has_aux=True)(parameters)
        return gradient, more

    def compiled(self, function: Any) -> Any:
        return jax.jit(function)

    def mapped(self, function: Callable[[Any], Any], batch: Any) -> Any:
        return jax.vmap(function)(batch)

    def reveal(self, function: Callable[..., None], arrays: Sequence[Any]) -> None:
        jax.debug.callback(lambda *values: function(*map(np.asarray, values)), *arrays)

    def settle(self) -> None:
        _settle()

    @contextmanager
    def environment(self) -> Iterator[None]:
        with jax.enable_x64(True), jax.default_device(self.device):
            yield
