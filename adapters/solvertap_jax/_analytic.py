"""Analytic derivatives in JAX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from solvertap import Step, StepTerm
from solvertap.adapting import Gradient

from .structure import tree_sum

_STATES = ("y0", "y1", "error", "y1_embedded")
_NUMBERS = ("t0", "t1", "rtol", "atol", "accepted")
_FUNCTIONS = ("norm", "field")  # a measure with a gradient calls neither


def analytic(terms: Sequence[StepTerm], steps: Sequence[Step]) -> tuple[Any, ...]:
    """The values of terms on the one step of a traced loop."""
    (step,) = steps
    # JAX keeps the function and its closure, which must therefore hold nothing of this trace.
    nothing: dict[str, Any] = dict.fromkeys((*_STATES, *_NUMBERS, *_FUNCTIONS))
    frame = replace(step, stages=None, **nothing)
    stages = None if step.stages is None else replace(step.stages, slopes=(), unit=None)
    # The error is differentiated as the sum of slopes that it is, in one loop with the other sums.
    summed = None if step.error is None or stages is None else stages.tableau.e

    def rebuilt(states: dict[str, Any], numbers: dict[str, Any]) -> Step:
        states, numbers = dict(states), dict(numbers)
        if stages is None:
            return replace(frame, **states, **numbers)
        whole = replace(stages, slopes=states.pop("slopes"), unit=numbers.pop("unit"))
        return replace(frame, stages=whole, **states, **numbers)

    # A jvp, not a vjp: JAX derives the vjp from it, and forward mode and second derivatives still work.
    @jax.custom_jvp
    def values(states: dict[str, Any], numbers: dict[str, Any]) -> tuple[Any, ...]:
        here = rebuilt(states, numbers)
        return tuple(term.measure(here) for term in terms)

    @values.defjvp
    def _(primals: Any, tangents: Any) -> tuple[Any, Any]:
        here, along = rebuilt(*primals), tangents[0]
        found = tuple(term.measure(here) for term in terms)
        gradients = [term.gradient(here, 1.0, x) for term, x in zip(terms, found, strict=True)]
        if summed is not None:
            along = along | {"error": _scaled(here, _contract(summed, along["slopes"]))}
        return found, tuple(_derivative(g, along).astype(x.dtype) for g, x in zip(gradients, found, strict=True))

    states = {name: getattr(step, name) for name in _STATES}
    numbers = {name: getattr(step, name) for name in _NUMBERS}
    if step.stages is not None:
        slopes = step.stages.slopes
        listed = isinstance(slopes, list)
        states["slopes"] = jax.tree.map(lambda *parts: jnp.stack(parts), *slopes) if listed else slopes
        numbers["unit"] = step.stages.unit
    return values(*({name: x for name, x in given.items() if x is not None} for given in (states, numbers)))


def _scaled(step: Step, sums: Any) -> Any:
    """Sums of slopes, which are multiplied by `unit`, as parts of a state, which h multiplies."""
    assert step.stages is not None
    h, unit = jnp.asarray(step.t1) - jnp.asarray(step.t0), jnp.asarray(step.stages.unit)
    # Exactly 1 where the solver stores h k; a lane that has ended may have no length.
    factor = jnp.where(unit == h, 1.0, h / jnp.where(unit == 0, 1.0, unit))
    return jax.tree.map(lambda x: factor.astype(x.real.dtype) * x, sums)


def _derivative(gradient: Gradient, along: dict[str, Any]) -> Any:
    """The derivative along tangents of the states and slopes."""
    pairs = [(state, along[name]) for name in _STATES if (state := getattr(gradient, name)) is not None]
    products = [_product(state, tangent) for state, tangent in pairs]
    products += [factor * _product(state, _contract(row, along["slopes"])) for row, state, factor in gradient.rows]
    return tree_sum(products)


def _product(state: Any, tangent: Any) -> Any:
    pairs = zip(state, jax.tree.leaves(tangent), strict=True)
    return tree_sum([jnp.sum(jnp.real(jnp.conj(g) * dx)) for g, dx in pairs])


def _contract(row: Sequence[float], slopes: Any) -> Any:
    """A weighted sum of tangents of slopes. Not `tensordot`: for its transpose XLA would copy all slopes."""

    def contracted(k: Any) -> Any:
        weights = jnp.asarray(row, k.real.dtype)
        return jnp.sum(jnp.reshape(weights, (-1, *[1] * (k.ndim - 1))) * k, 0)

    return jax.tree.map(contracted, slopes)
