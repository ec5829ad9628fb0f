"""Injection in JAX: the gradient of a penalty enters through the solution.

Three primitives. `_pass` is the identity on the arrays of a solution. `_along` is its derivative: linear, the identity
on the tangents of the arrays; its transpose adds to the cotangent of each value the weight that `_weigh` returns. The
weight is zero if the pass is known not to train, because its result is differentiated or its cotangent is mapped. A
`custom_vjp` would forbid forward mode, which the caller may use.
"""

# mypy: allow-untyped-calls
# JAX's functions for primitives have no types.

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray, Tracer
from jax.extend.core import Primitive
from jax.interpreters import ad, batching
from jax.lax import stop_gradient

from solvertap.adapting import Injection

from ._ahead import register_lowering
from ._host import Host
from ._loss import note_solve


def inject(solution: Any, injection: Injection) -> Any:
    """A pytree behind an identity whose backward pass adds the gradient of the penalty, through its inexact arrays."""
    counts, structure = jax.tree.flatten(injection.stats)
    host = Host(injection, structure)
    if injection.terms:
        note_solve()
    numbers = stop_gradient([*(jnp.asarray(x, jnp.int32) for x in counts), *injection.values])
    leaves, outside = jax.tree.flatten(solution)
    arrays = [leaf for leaf in leaves if _is_inexact(leaf)]
    passed = iter(_pass.bind(*numbers, *injection.values, *arrays, host=host, kind="evaluation", batch=1))
    return jax.tree.unflatten(outside, [next(passed) if _is_inexact(leaf) else leaf for leaf in leaves])


def _is_inexact(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic) and jnp.issubdtype(leaf.dtype, jnp.inexact)


_pass = Primitive("solvertap_pass")
_along = Primitive("solvertap_along")
_weigh = Primitive("solvertap_weigh")
_pass.multiple_results = _along.multiple_results = True
_EFFECTS = jax.make_jaxpr(lambda: jax.debug.callback(lambda: None))().effects


def _passed(*inputs: Any, host: Host, kind: str, batch: int) -> list[Any]:  # noqa: ARG001  # the primitive's settings
    """Records the solve on the host and returns the arrays.

    Args:
        inputs: the numbers to record, the values, the arrays.
        host: records the solve.
        kind: of the solve, "training" or "evaluation".
        batch: the number of solves.
    """
    # Without differentiation the values go unused, so XLA removes them from the loop.
    training = kind == "training"
    jax.debug.callback(partial(host.record, training), *inputs[: host.recorded if training else host.counts])
    return _arrays_of_pass(*inputs, host=host)


def _arrays_of_pass(*inputs: Any, host: Host, **_: Any) -> list[Any]:
    return list(inputs[host.recorded + host.terms :])


def _pass_jvp(primals: Any, tangents: Any, *, host: Host, kind: str, batch: int) -> Any:  # noqa: ARG001  # likewise
    outputs = _pass.bind(*primals, host=host, kind="training", batch=batch)
    values = primals[host.recorded : host.recorded + host.terms]
    along = map(ad.instantiate_zeros, tangents[host.recorded :])
    return outputs, _along.bind(*values, *along, host=host, batch=batch)


def _pass_batched(inputs: Any, dims: Any, *, host: Host, kind: str, batch: int) -> Any:
    inputs, size = _at_front(inputs, dims)
    # A batch is recorded as one solve: the sums of its counts, and the means of its values.
    counts = [jnp.sum(x, 0) for x in inputs[: host.counts]]
    means = [jnp.mean(x, 0) for x in inputs[host.counts : host.recorded]]
    outputs = _pass.bind(*counts, *means, *inputs[host.recorded :], host=host, kind=kind, batch=batch * size)
    return outputs, [0] * len(outputs)


def _along_jvp(primals: Any, tangents: Any, **settings: Any) -> Any:
    # The derivative of a derivative has only the tangents of the arrays: the penalty belongs to the solve alone.
    arrays = 2 * settings["host"].terms
    return _along.bind(*primals, **settings), list(map(ad.instantiate_zeros, tangents[arrays:]))


def _along_transposed(cotangents: Any, *inputs: Any, host: Host, batch: int) -> Any:
    values, tangents = inputs[: host.terms], inputs[host.terms :]
    given = [g for g in cotangents if type(g) is not ad.Zero]
    weights: Any = [None] * host.terms
    if given and host.injection.trains and not _is_second(host, (*values, *given)):
        found = _weigh.bind(*values, *given, host=host)
        weights = found / batch if host.injection.by.batch == "mean" else found
    by_values = [
        None if weight is None else jnp.broadcast_to(weight, x.aval.shape).astype(x.aval.dtype)
        for weight, x in zip(weights, tangents[: host.terms], strict=True)
    ]
    return [None] * host.terms + by_values + list(cotangents)


def _along_batched(inputs: Any, dims: Any, *, host: Host, batch: int) -> Any:
    inputs, size = _at_front(inputs, dims)
    outputs = _along.bind(*inputs, host=host, batch=batch * size)
    return outputs, [0] * len(outputs)


def _is_second(host: Host, arrays: Any) -> bool:
    """Whether another pass has already carried the penalty of this solve; known only outside of `jit`."""
    if any(isinstance(x, Tracer) for x in arrays):
        return False
    before, host.carried = host.carried, True
    return before and host.injection.by.passes != "all"


def _weights(*_: Any, host: Host) -> Any:
    """The weights from the host. The operands let the rules below recognise passes that do not train."""
    if not host.terms:
        jax.debug.callback(host.count)
        return jnp.zeros((0,), host.dtype)
    # A pure callback without operands works under every transformation, and is called once for a batch.
    return jax.pure_callback(host.weights, jax.ShapeDtypeStruct((host.terms,), host.dtype))


def _nothing(host: Host) -> Any:
    return jnp.zeros((host.terms,), host.dtype)


def _weigh_jvp(primals: Any, _: Any, *, host: Host) -> Any:
    """A pass whose result is differentiated does not train."""
    found = _weigh.bind(*primals, host=host) if host.injection.by.passes == "all" else _nothing(host)
    return found, jnp.zeros_like(found)


def _weigh_batched(inputs: Any, dims: Any, *, host: Host) -> Any:
    """Nor does a pass with many cotangents of one solve, as in a Jacobian. A batch of solves shares its weights."""
    solves, cotangents = dims[: host.terms], dims[host.terms :]
    mapped = host.terms and any(dim is not None for dim in cotangents) and all(dim is None for dim in solves)
    found = _nothing(host) if mapped and host.injection.by.passes != "all" else _weigh.bind(*inputs, host=host)
    return found, None


def _at_front(inputs: Any, dims: Any) -> tuple[list[Any], int]:
    size = next(x.shape[dim] for x, dim in zip(inputs, dims, strict=True) if dim is not None)
    return [batching.bdim_at_front(x, dim, size) for x, dim in zip(inputs, dims, strict=True)], size


def _arrays_of_along(*inputs: Any, host: Host, **_: Any) -> list[Any]:
    return list(inputs[2 * host.terms :])


def _weigh_abstract(*_: Any, host: Host) -> Any:
    return ShapedArray((host.terms,), host.dtype), set() if host.terms else _EFFECTS


_pass.def_impl(_passed)
_pass.def_effectful_abstract_eval(lambda *inputs, **settings: (_arrays_of_pass(*inputs, **settings), _EFFECTS))
_along.def_impl(_arrays_of_along)
_along.def_abstract_eval(_arrays_of_along)
_weigh.def_impl(_weights)
_weigh.def_effectful_abstract_eval(_weigh_abstract)
for _primitive, _jvp, _batched in (
    (_pass, _pass_jvp, _pass_batched),
    (_along, _along_jvp, _along_batched),
    (_weigh, _weigh_jvp, _weigh_batched),
):
    ad.primitive_jvps[_primitive] = _jvp
    batching.primitive_batchers[_primitive] = _batched
ad.primitive_transposes[_along] = _along_transposed
register_lowering(_pass, _passed, ahead=_arrays_of_pass)
register_lowering(_along, _arrays_of_along, ahead=_arrays_of_along)
register_lowering(_weigh, _weights, ahead=lambda *_, host: _nothing(host))
