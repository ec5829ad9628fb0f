"""The base of the trials of JAX's solvers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from solvertap.adapting import Trial

_settle: Any = jax.effects_barrier  # not typed


class JaxTrial(Trial):
    """Arrays are JAX's, in float64."""

    def __init__(self, device: str | None = None) -> None:
        self.device = None if device is None else jax.devices(device)[0]

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
        # For all threads: a callback of a compiled program runs on a thread of its own.
        config: Any = jax.config
        found = config.jax_enable_x64
        config.update("jax_enable_x64", True)
        try:
            with jax.default_device(self.device):
                yield
        finally:
            config.update("jax_enable_x64", found)
