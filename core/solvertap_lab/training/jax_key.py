"""Random numbers for a problem in JAX."""

from __future__ import annotations

from typing import Any

import jax

from .trainer import Use

# What is folded in first. A solve splits the same key for its Brownian path, and the n-th of a split may be what the
# number n folded in gives (with `jax_threefry_partitionable` it is); nobody splits into so many.
_PROBLEM = 0x501BE77A
# Likewise, for a key of its own: from the same key, a Brownian path of one shape may begin as that of another does.
_VALIDATION = 0x501BE77B


def key_of(key: Any, use: Use) -> Any:
    """The key of a prediction, made of that of the model: for the test this itself."""
    return key if use == "test" else jax.random.fold_in(key, _VALIDATION)


class JaxKey:
    """A `Key` made of a key of JAX: pure under `jit`, for each draw folds in how many came before it.

    Args:
        key: of one training step or prediction.
        dtype: of what is drawn.
    """

    def __init__(self, key: Any, dtype: Any) -> None:
        self._key, self._dtype = key, dtype
        self._draws = 0

    def normal(self, shape: tuple[int, ...]) -> Any:
        return jax.random.normal(self._next(), shape, self._dtype)

    def uniform(self, shape: tuple[int, ...]) -> Any:
        return jax.random.uniform(self._next(), shape, self._dtype)

    def _next(self) -> Any:
        self._draws += 1
        return jax.random.fold_in(jax.random.fold_in(self._key, _PROBLEM), self._draws)
