"""The evaluations of reversible Heun before its solve begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_MARK = "_solvertap_begun"


def tapped_init(init: Callable[..., Any]) -> Callable[..., Any]:
    """The solver's `init_extra_solver_state`, which also marks the solver."""

    def init_extra_solver_state(self: Any, t0: Any, y0: Any) -> Any:
        # sdeint.py calls this before the solve begins. It evaluates drift and diffusion once.
        vars(self)[_MARK] = True
        return init(self, t0, y0)

    return init_extra_solver_state


def pop_mark(solver: Any) -> bool:
    """Whether a solver is marked; removes the mark."""
    return bool(vars(solver).pop(_MARK, False))
