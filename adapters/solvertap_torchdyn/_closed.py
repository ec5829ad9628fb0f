"""Solves of torchdyn whose steps are not those of one trajectory: their evaluations are counted."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from solvertap import unobserved
from solvertap.adapting import Adapter, Solve
from solvertap.errors import AlignError, CheckpointError, FixedStepError

from ._field import CountedField
from ._method import name_of
from ._odeint import begin


def tapped_closed(adapter: Adapter, original: Callable[..., Any]) -> Callable[..., Any]:
    """`odeint_hybrid` or `odeint_mshooting`, tapped."""
    name = original.__name__

    @wraps(original)
    def closed(f: Any, x: Any, *args: Any) -> Any:
        solve = begin(adapter, x, f"{name}({name_of(_solver(name, args))})")
        if solve is None:
            return original(f, x, *args)
        _refuse(solve, name)
        solve.closed = True
        with solve, unobserved():
            result = original(CountedField(f, solve.counts), x, *args)
        return solve.through(result)

    return closed


def _solver(name: str, args: Any) -> Any:
    # odeint.py: (t_span, j_span, solver, ...) and (t_span, solver, ...), after f and x.
    return args[2 if name == "odeint_hybrid" else 1]


_WHY = {
    "odeint_hybrid": "looks for events inside of its steps, without gradient",
    "odeint_mshooting": "iterates over all parts of the time span at once",
}


def _refuse(solve: Solve, name: str) -> None:
    asked = "`observe(align=True)`" if solve.align else "`observe(checkpoint=True)`" if solve.checkpoint else ""
    if asked:
        solve.abandon()
        raise (AlignError if solve.align else CheckpointError)(
            f"{asked} was asked of torchdyn's `{name}`, which {_WHY[name]}. Solve by `odeint`, or leave it out."
        )
    if solve.terms:
        solve.refuse(
            FixedStepError(
                f"A penalty was asked of torchdyn's `{name}`, which {_WHY[name]}, so that its steps cannot be seen. "
                "Solve by `odeint`. `observe()` without a term still counts."
            ),
            sampled=True,
        )
