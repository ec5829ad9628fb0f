"""What reversible Heun evaluates before its solve begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_BEGUN = "_solvertap_begun"


def tapped_init(init: Callable[..., Any]) -> Callable[..., Any]:
    """The start of a solver's own state, which a solver is marked with."""

    def init_extra_solver_state(self: Any, t0: Any, y0: Any) -> Any:
        # sdeint.py calls it before the solve begins; it evaluates drift and diffusion once.
        vars(self)[_BEGUN] = True
        return init(self, t0, y0)

    return init_extra_solver_state


def begun(solver: Any) -> bool:
    """Whether a solver is marked so; it is not afterwards."""
    return bool(vars(solver).pop(_BEGUN, False))
