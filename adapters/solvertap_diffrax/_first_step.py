"""The first step size of a solve under `observe(align=True)`."""

from __future__ import annotations

from typing import Any

import diffrax
import jax
import jax.numpy as jnp

from solvertap.adapting import initial_step
from solvertap.errors import AlignError
from solvertap_jax.structure import as_state, as_tree

from ._norm import as_norm


def choose_first_step(arguments: dict[str, Any]) -> int:
    """Chooses the reference first step if the user gives no `dt0`; returns the number of evaluations for it."""
    controller, solver, t0 = (arguments[name] for name in ("stepsize_controller", "solver", "t0"))
    terms = arguments["terms"]
    adaptive = isinstance(controller, diffrax.AbstractAdaptiveStepSizeController)
    if arguments["dt0"] is not None or not adaptive:
        return 0
    if not isinstance(terms, diffrax.ODETerm):
        raise AlignError(
            f"`observe(align=True)` was asked of `diffeqsolve` with a `{type(terms).__name__}` and `dt0=None`, "
            "and it chooses the first step of an `ODETerm` alone. Give `dt0`, or leave `align` out."
        )
    direction = jnp.where(t0 < arguments["t1"], 1, -1)
    leaves, structure = jax.tree.flatten(arguments["y0"])
    h = initial_step(
        lambda t, y: as_state(terms.vf(t, as_tree(structure, y), arguments["args"])),
        t0,
        as_state(leaves),
        direction,
        solver.order(terms),
        controller.rtol,
        controller.atol,
        as_norm(controller.norm, structure),
    )
    # diffrax also stops this gradient if it chooses the first step itself (pid.py::init).
    arguments["dt0"] = jax.lax.stop_gradient(direction * h)
    return 2
