"""The slope of a diffrax problem, whatever its terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffrax
import jax
from diffrax._term import WrapTerm


def drift(terms: Any, args: Any) -> tuple[Callable[[Any, Any], Any] | None, Any]:
    """The user's slope at the user's time, and the direction of time; no slope where no term is an `ODETerm`.

    diffrax 0.7 solves backwards in time by negating it (`_integrate.py::diffeqsolve`), each term in a `WrapTerm`.
    Of an SDE the slope is its drift, of several drifts their sum.
    """
    wrapped = [
        term for term in jax.tree.leaves(terms, is_leaf=lambda x: isinstance(x, WrapTerm)) if isinstance(term, WrapTerm)
    ]
    direction = wrapped[0].direction if wrapped else 1
    drifts = [term.term for term in wrapped if isinstance(term.term, diffrax.ODETerm)]
    if not drifts:
        return None, direction

    def slope(t: Any, y: Any) -> Any:
        slopes = [term.vf(t, y, args) for term in drifts]
        return jax.tree.map(lambda *parts: sum(parts[1:], start=parts[0]), *slopes)

    return slope, direction
