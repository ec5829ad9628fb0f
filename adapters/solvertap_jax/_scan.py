"""A replay in JAX: a scan over a bounded number of steps, of which only those that were accepted are taken."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import isqrt
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jax.lax import stop_gradient

from solvertap.adapting import ReplayCarry


def replayed(take: Callable[..., ReplayCarry], carried: ReplayCarry, grid: Any) -> ReplayCarry:
    """What a replay carries after its last step; see `Framework.replayed`.

    The backward pass computes each step again, from what was carried at the start of its chunk, so that the memory is
    that of about twice the square root of the bound, whatever the field is.

    Args:
        take: takes one step more.
        carried: before the first step.
        grid: what is noted of each step, arrays whose first axis is the bound; and how many steps there are.
    """
    rows, count = stop_gradient(grid)
    carried = jax.tree.map(jnp.asarray, carried)
    bound = jax.tree.leaves(rows)[0].shape[0]
    size = isqrt(bound - 1) + 1
    chunks = -(-bound // size)
    first = jax.tree.map(lambda x: x[0], rows)

    def chunked(x: Any) -> Any:
        x = jnp.concatenate([x, jnp.zeros((chunks * size - bound, *x.shape[1:]), x.dtype)])
        return x.reshape(chunks, size, *x.shape[1:])

    @partial(jax.checkpoint, prevent_cse=False)
    def step(now: Any, n: Any, row: Any) -> Any:
        # Of a batch, a solve that is over takes its first step again, which is known to be finite, and drops it.
        active = n < count
        new = take(_where(active, now, carried), *_where(active, row, first))
        return _where(active, new, now)

    def one(now: Any, x: Any) -> Any:
        return lax.cond(_any_of_batch(x[0] < count), step, _unchanged, now, *x), None

    @partial(jax.checkpoint, prevent_cse=False)
    def chunk(now: Any, x: Any) -> Any:
        def taken(now: Any, x: Any) -> Any:
            return lax.scan(one, now, x)[0]

        return lax.cond(_any_of_batch(x[0][0] < count), taken, _unchanged, now, x), None

    numbered = (jnp.arange(chunks * size).reshape(chunks, size), jax.tree.map(chunked, rows))
    return lax.scan(chunk, carried, numbered)[0]


def _unchanged(now: Any, *_: Any) -> Any:
    return now


def _where(condition: Any, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b).astype(b.dtype), new, old)


@custom_vmap
def _any_of_batch(x: Any) -> Any:
    """A condition; under `vmap` one for the whole batch, so that `cond` stays a branch and no select of both."""
    return x


@_any_of_batch.def_vmap
def _any_of_mapped(size: int, batched: Any, x: Any) -> Any:  # noqa: ARG001  # as JAX calls it
    return _any_of_batch(jnp.any(x, axis=0)), False
