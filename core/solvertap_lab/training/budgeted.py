"""A gradient of JAX whose penalty has the weight of a budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from solvertap import Stats, budget
from solvertap.observing.budget_state import BudgetState


def budgeted_gradient(
    wanted: budget, losses: Callable[[Any], Any], parameters: Any, state: BudgetState
) -> tuple[Any, Any, Stats, BudgetState]:
    """The gradient of the loss and the weighted penalty, the loss, the counts and the next state.

    Args:
        wanted: the budget.
        losses: gives of the parameters the loss and its term at a weight of one, and the counts beside them.
        parameters: a pytree.
        state: the one before.
    """
    (task, penalty), pull, stats = jax.vjp(losses, parameters, has_aux=True)
    (gradient,) = pull((jnp.ones_like(task), state.weight.astype(penalty.dtype)))
    nothing = jax.tree.map(jnp.zeros_like, gradient)
    # Taken apart in one of so many steps: it is a backward pass of its own.
    by_penalty = jax.lax.cond(
        wanted.measures(state),
        lambda: pull((jnp.zeros_like(task), jnp.ones_like(penalty)))[0],
        lambda: nothing,
    )
    by_loss = jax.tree.map(lambda g, p: g - state.weight.astype(p.dtype) * p, gradient, by_penalty)
    state = wanted.updated(state, stats, task, jax.tree.leaves(by_loss), jax.tree.leaves(by_penalty))
    return gradient, task, stats, state
