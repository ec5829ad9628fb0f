"""A step of `odeint` as a step of the core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from solvertap import Step
from solvertap.adapting import Stages, Tableau, initial_step
from solvertap_jax.structure import as_state

STAGES = 6
"""Evaluations of the field in one attempt; the first slope is the last one of the step before."""

_ORDER = 5

# Dormand and Prince, as `runge_kutta_step` has it.
_SOLUTION = (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0)
TABLEAU = Tableau(
    c=(0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1),
    b=_SOLUTION,
    a=(
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        _SOLUTION,
    ),
    e=(
        35 / 384 - 1951 / 21600,
        0,
        500 / 1113 - 22642 / 50085,
        125 / 192 - 451 / 720,
        -2187 / 6784 + 12231 / 42400,
        11 / 84 - 649 / 6300,
        -1 / 60,
    ),
)


def read_step(
    y0: Any, t0: Any, dt: Any, attempt: Any, unravel: Callable[[Any], Any], rtol: Any, atol: Any, field: Any = None
) -> Step:
    """The step of size dt from the flat state y0.

    Args:
        y0, t0, dt: as `runge_kutta_step` has got them.
        attempt: what it returned.
        unravel: makes the user's pytree of a flat state.
        rtol, atol: the tolerances.
        field: maps (t, y) to the slope, for states of the core.
    """
    y1, _, error, slopes = attempt
    return Step(
        t0=t0,
        t1=t0 + dt,
        y0=as_state(unravel(y0)),
        y1=as_state(unravel(y1)),
        error=as_state(unravel(error)),
        rtol=rtol,
        atol=atol,
        stages=Stages(slopes=as_state(jax.vmap(unravel)(slopes)), tableau=TABLEAU),
        field=field,
        stability_size=TABLEAU.stability_size,
    )


def first_step(fun: Any, t0: Any, y0: Any, order: Any, rtol: Any, atol: Any, f0: Any) -> Any:  # noqa: ARG001  # called by `_odeint`
    """The reference first step, with the arguments of `initial_step_size`; it costs one evaluation as well."""
    return initial_step(lambda t, y: f0 if y is y0 else fun(y, t), t0, y0, 1, _ORDER, rtol, atol)


def is_state(y0: Any) -> bool:
    """Whether `odeint` can solve from it; if not, it says so itself."""
    leaves = [jnp.result_type(leaf) for leaf in jax.tree.leaves(y0) if hasattr(leaf, "dtype") or _is_number(leaf)]
    return len(leaves) == len(jax.tree.leaves(y0)) > 0 and all(jnp.issubdtype(x, jnp.inexact) for x in leaves)


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, float | complex)
