"""Whether the backward pass of an adjoint differentiates the solver state."""

from __future__ import annotations

from typing import Any, Literal

import diffrax

from ._method import owner

State = Literal["differentiated", "returned", "withheld", "unknown"]

_LOOPS: dict[type, State] = {
    # Their `loop` is diffrax's own `_integrate.py::loop`, differentiated as it stands.
    diffrax.RecursiveCheckpointAdjoint: "differentiated",
    diffrax.DirectAdjoint: "differentiated",
    diffrax.ForwardMode: "differentiated",
    diffrax.BacksolveAdjoint: "returned",
    diffrax.ImplicitAdjoint: "withheld",
}


def solver_state(adjoint: Any) -> State:
    """What an adjoint does with the solver state, in which the terms are folded.

    "differentiated": the solve returns it with gradient. "returned": the solve returns it without gradient. "withheld":
    the solve does not return it. "unknown": the user wrote the `loop` of the adjoint. Its class may set the attribute
    `solver_state` to one of the first two.
    """
    loop = owner(type(adjoint), "loop")
    if loop in _LOOPS and owner(type(adjoint), "_loop") is diffrax.AbstractAdjoint:
        return _LOOPS[loop]
    declared = getattr(adjoint, "solver_state", None)
    return declared if declared in ("differentiated", "returned") else "unknown"


def is_forward_mode(adjoint: Any) -> bool:
    """Whether the adjoint allows no backward pass through the solve."""
    return owner(type(adjoint), "loop") is diffrax.ForwardMode
