"""Pytrees, and states of the core."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def as_state(y: Any) -> Any:
    """The leaves of a pytree: the one array, or a tuple of several."""
    leaves = tuple(jnp.asarray(leaf) for leaf in jax.tree.leaves(y))
    return leaves[0] if len(leaves) == 1 else leaves


def as_tree(structure: Any, state: Any) -> Any:
    """The pytree with this structure."""
    return jax.tree.unflatten(structure, state if isinstance(state, tuple) else (state,))


def with_row(table: Any, n: Any, row: Any) -> Any:
    """The table with its n-th row replaced, in place where it is part of a carry; the same where there is none."""
    return table.at[n].set(row, mode="drop")


def tree_sum(trees: Any) -> Any:
    """The sum of one or more pytrees of the same structure."""
    return jax.tree.map(lambda *parts: sum(parts[1:], start=parts[0]), *trees)
