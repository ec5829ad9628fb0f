"""What becomes of the solver state under an adjoint: whether its backward pass differentiates it."""

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
    """What becomes of the solver state, in which the terms are folded.

    "differentiated": it comes out of the solve with its gradient. "returned": it comes out with none. "withheld": it
    does not come out. "unknown": the `loop` of the adjoint is somebody's own, who may say so by its attribute
    `solver_state`, one of the first two.
    """
    loop = owner(type(adjoint), "loop")
    if loop in _LOOPS and owner(type(adjoint), "_loop") is diffrax.AbstractAdjoint:
        return _LOOPS[loop]
    said = getattr(adjoint, "solver_state", None)
    return said if said in ("differentiated", "returned") else "unknown"


def is_forward_mode(adjoint: Any) -> bool:
    """Whether there is no backward pass through the solve at all."""
    return owner(type(adjoint), "loop") is diffrax.ForwardMode
