"""The slopes that a diffrax step shows, as stages of the core."""

from __future__ import annotations

from typing import Any

import diffrax
import jax
import jax.numpy as jnp

from solvertap.adapting import Stages
from solvertap_jax.structure import as_state, tree_sum

from ._method import is_half, tableau


def read_stages(solver: Any, terms: Any, h: Any, y0: Any, y1: Any, error: Any, dense_info: Any) -> Stages | None:
    """The stages of one step of signed size h in the user's time; None if the solver shows none."""
    shown = tableau(solver, terms)
    if shown is None:
        return None
    real = jax.tree.leaves(y1)[0].real
    h = jnp.where(h == 0, 1, h)  # in low precision h can round to 0, and all slopes are stored as 0
    return Stages(
        slopes=as_state(_slopes(solver, y0, y1, error, dense_info)),
        tableau=shown,
        unit=jnp.asarray(h, dtype=real.dtype),
    )


def _slopes(solver: Any, y0: Any, y1: Any, error: Any, dense_info: Any) -> Any:
    """The slopes times h, stacked before the axes of the state."""
    if issubclass(type(solver), diffrax.ImplicitEuler):
        # implicit_euler.py: y1 = y0 + k1 and y_error = (k1 - k0) / 2.
        last = jax.tree.map(jnp.subtract, y1, y0)
        return jax.tree.map(lambda k, e: jnp.stack((k - 2 * e, k)), last, error)
    slopes = dense_info["k"]
    inner: Any = solver.solver if is_half(solver) else solver
    if isinstance(inner.tableau, diffrax.MultiButcherTableau):
        return tree_sum(slopes)
    return slopes
