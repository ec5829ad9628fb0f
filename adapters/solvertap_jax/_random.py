"""The random numbers of a solve in JAX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import bitcast_convert_type, stop_gradient

from solvertap.adapting import FallbackKey
from solvertap.errors import InvalidInputError

from .structure import tree_sum


@partial(jax.tree_util.register_dataclass, data_fields=["key"], meta_fields=["by_state"])
@dataclass(frozen=True)
class Numbers:
    """The numbers of one solve; see `solvertap.RandomSource`.

    Attributes:
        key: a key of `jax.random`.
        by_state: whether the state is folded into the key. Without a key from the user, only the state differs
            between two runs of a compiled program.
    """

    key: Any
    by_state: bool = False

    @property
    def arrays(self) -> tuple[Any]:
        """What rides through a traced loop; see `solvertap.adapting.Ride`."""
        return (self.key,)

    def of(self, arrays: tuple[Any]) -> Numbers:
        """The numbers made of these arrays."""
        return Numbers(*arrays, by_state=self.by_state)

    def __call__(self, n: Any, y: Any) -> Any:
        key = jax.random.fold_in(self.key, n)
        if self.by_state:
            sums = tree_sum([jnp.sum(jnp.real(x)) for x in jax.tree.leaves(stop_gradient(y))])
            key = jax.random.fold_in(key, bitcast_convert_type(sums.astype(jnp.float32), jnp.uint32))
        return jax.random.uniform(key)


@partial(jax.tree_util.register_dataclass, data_fields=["function"], meta_fields=[])
@dataclass(frozen=True)
class Given:
    """Numbers that the user gives by a function of n, which may be a module with arrays."""

    function: Callable[[Any], Any]

    def __call__(self, n: Any, y: Any) -> Any:  # noqa: ARG002  # the caller's signature
        return self.function(n)


def numbers(key: Any, index: int) -> Numbers | Given:
    """The numbers of a solve, from a key that several solves of a block share.

    Raises:
        InvalidInputError: no key was given.
    """
    if isinstance(key, FallbackKey):
        return Numbers(jax.random.key(0), by_state=True)
    if callable(key):
        return Given(key)
    if key is None:
        raise InvalidInputError(
            "`LocalSample` draws a time of each solve, and JAX needs a random key for that. Give one, as in "
            "`observe(term, key=jax.random.key(0))`, and another at the next training step."
        )
    return Numbers(jax.random.fold_in(key, index))
