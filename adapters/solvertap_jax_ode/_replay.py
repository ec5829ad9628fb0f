"""The accepted steps of `odeint`, taken again with gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.experimental import ode
from jax.flatten_util import ravel_pytree

from solvertap import Step, unobserved
from solvertap.adapting import Replay
from solvertap_jax.structure import as_state, as_tree

from ._step import STAGES, read_step

_ode: Any = ode  # its functions have no types


def begin(
    replay: Replay, func: Callable[..., Any], y0: Any, t: Any, args: Any, rtol: Any, atol: Any, accepted: Any
) -> None:
    """Begins the replay of a solve that is over, with the arguments of `odeint`."""
    structure, (flat, unravel) = jax.tree.structure(y0), ravel_pytree(y0)

    def slope(y: Any, t: Any) -> Any:
        return ravel_pytree(unobserved().call(func, unravel(y), t, *args))[0]

    def field(t: Any, y: Any) -> Any:
        return as_state(unobserved().call(func, as_tree(structure, y), t, *args))

    def advance(kept: Any, t0: Any, dt: Any) -> tuple[Step, Any]:
        dt = dt.astype(flat.real.dtype)
        with jax.default_matmul_precision("highest"):
            attempt = _ode.runge_kutta_step(slope, *kept, t0, dt)
        return read_step(kept[0], t0, dt, attempt, unravel, rtol, atol, field), attempt[:2]

    with jax.default_matmul_precision("highest"):
        replay.begin(advance, (flat, slope(flat, t[0])), as_state(y0))
    replay.counts.evaluations = 1 + STAGES * accepted
