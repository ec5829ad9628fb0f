"""How JAX is told a derivative that is written out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from solvertap import Gradient, Step, StepTerm

from ._structure import tree_sum

_STATES = ("y0", "y1", "error", "y1_embedded")
_NUMBERS = ("t0", "t1", "rtol", "atol", "accepted")
_FUNCTIONS = ("norm", "field")  # a measure that has a gradient asks neither


def derived(terms: Sequence[StepTerm], steps: Sequence[Step]) -> tuple[Any, ...]:
    """What terms measure on the one step of a traced loop."""
    (step,) = steps
    # JAX keeps the function with what it closes over, so that must be nothing of this trace.
    nothing: dict[str, Any] = dict.fromkeys((*_STATES, *_NUMBERS, *_FUNCTIONS))
    frame = replace(step, stages=None, **nothing)
    stages = None if step.stages is None else replace(step.stages, slopes=(), unit=None)

    def rebuilt(states: dict[str, Any], numbers: dict[str, Any]) -> Step:
        states, numbers = dict(states), dict(numbers)
        if stages is None:
            return replace(frame, **states, **numbers)
        whole = replace(stages, slopes=states.pop("slopes"), unit=numbers.pop("unit"))
        return replace(frame, stages=whole, **states, **numbers)

    # A jvp, not a vjp: JAX makes the one from the other, and forward mode and second derivatives keep working.
    @jax.custom_jvp
    def values(states: dict[str, Any], numbers: dict[str, Any]) -> tuple[Any, ...]:
        here = rebuilt(states, numbers)
        return tuple(term.measure(here) for term in terms)

    @values.defjvp
    def _(primals: Any, tangents: Any) -> tuple[Any, Any]:
        here, along = rebuilt(*primals), rebuilt(tangents[0], primals[1])
        found = tuple(term.measure(here) for term in terms)
        return found, tuple(
            _derivative(term.gradient(here, 1.0), along, x) for term, x in zip(terms, found, strict=True)
        )

    states = {name: getattr(step, name) for name in _STATES}
    numbers = {name: getattr(step, name) for name in _NUMBERS}
    if step.stages is not None:
        states["slopes"] = step.stages.slopes
        numbers["unit"] = step.stages.unit
    return values(*({name: x for name, x in given.items() if x is not None} for given in (states, numbers)))


def _derivative(gradient: Gradient, along: Step, like: Any) -> Any:
    """The derivative along a step whose states are tangents."""
    pairs = [(getattr(gradient, name), getattr(along, name)) for name in _STATES]
    if along.stages is not None:
        pairs += [(state, along.stages.contract(row)) for row, state in gradient.rows]
    products = [
        jnp.real(jnp.conj(g) * dx)
        for state, tangent in pairs
        if state is not None
        for g, dx in zip(state, jax.tree.leaves(tangent), strict=True)
    ]
    return tree_sum([jnp.sum(product) for product in products]).astype(like.dtype)
