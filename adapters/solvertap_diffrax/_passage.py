"""How a solution of JAX passes on the gradient of a penalty that its caller knows nothing of.

A primitive of our own: linear, the identity forwards, in every mode and as often as it is differentiated; its
transpose alone is another's. A `custom_vjp` would forbid forward mode, which the caller may use.
"""

# mypy: allow-untyped-calls
# What primitives are made with has no types in JAX.

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.lax import stop_gradient

from solvertap import Passage


def inject(solution: Any, passage: Passage) -> Any:
    """The arrays of a solution behind one identity."""
    counts, structure = jax.tree.flatten(passage.stats)
    host = _Host(passage, structure)
    told = stop_gradient([*(jnp.asarray(x, jnp.int32) for x in counts), *passage.values])
    outputs = solution.ys, solution.interpolation
    arrays, rest = eqx.partition(outputs, eqx.is_inexact_array)
    flat, outside = jax.tree.flatten(arrays)
    flat = _pass.bind(*told, *passage.values, *flat, host=host, told=len(told), kind="evaluation", batch=1)
    outputs = eqx.combine(jax.tree.unflatten(outside, flat), rest)
    return eqx.tree_at(lambda s: (s.ys, s.interpolation), solution, outputs, is_leaf=lambda x: x is None)


class _Host:
    """What the compiled program calls, which lives longer than the block that it was compiled in."""

    def __init__(self, passage: Passage, structure: Any) -> None:
        self.passage = passage
        self.structure = structure  # of the counts, where those that nobody tells are no leaves
        self.counts = structure.num_leaves
        self.terms = len(passage.terms)
        self.site = _site()
        self.dtype = jnp.result_type(float)

    def record(self, training: bool, *told: Any) -> None:
        """Records a solve, or a batch of them."""
        if self.passage.by.at_work:
            stats = jax.tree.unflatten(self.structure, map(int, told[: self.counts]))
            self.passage.record(training, stats, told[self.counts :])

    def count(self) -> None:
        """Says that a backward pass has come to the solve."""
        if self.passage.by.at_work:
            self.passage.by.passed_backward(self.site)

    def weights(self) -> Any:
        """The weights of the terms for the backward pass that is at work."""
        self.count()
        weights = [0.0] * self.terms
        if self.passage.by.at_work:
            weights = self.passage.weights()
            self.passage.by.carry()
        return np.asarray(weights, self.dtype)


def _site() -> int:
    """Where in the caller's code the solve stands, the same whenever that is traced anew."""
    places: list[Any] = []
    frame: Any = sys._getframe()
    while frame is not None:
        places.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return hash(tuple(places))


_pass = Primitive("solvertap_pass")
_pass.multiple_results = True


def _passed(*inputs: Any, host: _Host, told: int, kind: str | None, **_: Any) -> list[Any]:
    """Of what is told to the host, the values and the arrays, the arrays.

    Args:
        inputs: in that order; nothing is told of a tangent.
        host: whom to tell.
        told: how many are told.
        kind: of the solve; None for a tangent.
    """
    if kind is not None:
        # Where nothing is differentiated nobody asks for the values, and XLA leaves them out of the loop.
        training = kind == "training"
        jax.debug.callback(partial(host.record, training), *inputs[: told if training else host.counts])
    return list(inputs[told + host.terms :])


def _abstract(*inputs: Any, host: _Host, told: int, kind: str | None, **_: Any) -> Any:
    return list(inputs[told + host.terms :]), set() if kind is None else _EFFECTS


def _jvp(primals: Any, tangents: Any, *, host: _Host, told: int, kind: str | None, batch: int) -> Any:
    kind = kind and "training"
    outputs = _pass.bind(*primals, host=host, told=told, kind=kind, batch=batch)
    along = map(ad.instantiate_zeros, tangents[told:])
    return outputs, _pass.bind(*along, host=host, told=0, kind=None, batch=batch)


def _transposed(cotangents: Any, *inputs: Any, host: _Host, told: int, batch: int, **_: Any) -> Any:
    values, arrays = inputs[told : told + host.terms], inputs[told + host.terms :]
    weights: Any = ()
    if not host.terms:
        jax.debug.callback(host.count)
    else:
        # Pure, and of no operand: it may stand wherever the caller differentiates, and is asked once for a batch.
        weights = jax.pure_callback(host.weights, jax.ShapeDtypeStruct((host.terms,), host.dtype)) / batch
    by_values = [
        jnp.broadcast_to(weight, x.aval.shape).astype(x.aval.dtype) if ad.is_undefined_primal(x) else None
        for weight, x in zip(weights, values, strict=True)
    ]
    by_arrays = [g if ad.is_undefined_primal(x) else None for g, x in zip(cotangents, arrays, strict=True)]
    return [None] * told + by_values + by_arrays


def _batched(inputs: Any, dims: Any, *, host: _Host, told: int, kind: str | None, batch: int) -> Any:
    size = next(x.shape[dim] for x, dim in zip(inputs, dims, strict=True) if dim is not None)
    inputs = [batching.bdim_at_front(x, dim, size) for x, dim in zip(inputs, dims, strict=True)]
    # Of the batch one solve is told: its counts together, and the means of its values.
    counts = [jnp.sum(x, 0) for x in inputs[:told][: host.counts]]
    means = [jnp.mean(x, 0) for x in inputs[:told][host.counts :]]
    outputs = _pass.bind(*counts, *means, *inputs[told:], host=host, told=told, kind=kind, batch=batch * size)
    return outputs, [0] * len(outputs)


_EFFECTS = jax.make_jaxpr(lambda: jax.debug.callback(lambda: None))().effects
_pass.def_impl(_passed)
_pass.def_effectful_abstract_eval(_abstract)
ad.primitive_jvps[_pass] = _jvp
ad.primitive_transposes[_pass] = _transposed
batching.primitive_batchers[_pass] = _batched
mlir.register_lowering(_pass, mlir.lower_fun(_passed, multiple_results=True))
