"""The loss of `jax.grad` and `jax.value_and_grad`, and both gradients: for a `budget` under `regularize`.

Both functions, and what other libraries make of them, take `vjp` and have `_check_scalar` check the loss. A pull-back
is linear, and the penalty comes into it whatever the cotangent of the loss is: of zero it gives the gradient of the
weighted penalty alone. That costs a backward pass, which the program takes where the host says so.
"""

# mypy: allow-untyped-calls
# JAX's functions for primitives have no types.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from threading import local
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import api
from jax.core import ShapedArray, Tracer
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from solvertap.adapting import Patches, regularizing, squared_norms

from ._ahead import register_lowering

_here = local()


def attach(patches: Patches) -> None:
    """Places the taps; a JAX without these functions tells no loss."""
    if hasattr(api, "_check_scalar"):
        patches.replace(api, "vjp", _tapped_vjp)
        patches.replace(api, "_check_scalar", _tapped_check)


def note_solve() -> None:
    """Notes that a solve with a penalty has been traced in this thread: the loss that is checked next is its own."""
    _here.solved = True


def _tapped_vjp(vjp: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(vjp)
    def tapped(*args: Any, **kwargs: Any) -> Any:
        regularizer = regularizing()
        if regularizer is None or not regularizer.wants_loss:
            return vjp(*args, **kwargs)
        before, _here.solved = getattr(_here, "solved", False), False
        loss, pull, *aux = vjp(*args, **kwargs)
        # Outside of `jit` a solve may have been traced long ago.
        solved = _here.solved or not isinstance(loss, Tracer)
        _here.solved |= before
        _here.last = _Pull(loss, pull, regularizer) if solved and isinstance(loss, jax.Array) else None
        return loss, _here.last or pull, *aux

    return tapped


def _tapped_check(check: Callable[[Any], None]) -> Callable[[Any], None]:
    @wraps(check)
    def tapped(x: Any) -> None:
        check(x)
        last, _here.last = getattr(_here, "last", None), None
        if last is not None and last.loss is x:
            last.told = True

    return tapped


class _Pull:
    """The pull-back of a loss, which tells the loss and the gradients where it is that of a gradient."""

    def __init__(self, loss: Any, pull: Callable[..., Any], by: Any) -> None:
        self.loss, self.pull, self.by = loss, pull, by
        self.told = False

    def __call__(self, cotangent: Any) -> Any:
        gradient = self.pull(cotangent)
        if self.told:
            host = _Told(self.by)
            measured = lambda: _squares(gradient, self.pull(jnp.zeros_like(cotangent)))  # noqa: E731  # one of two
            unmeasured = lambda: (jnp.zeros(()), jnp.zeros(()))  # noqa: E731
            (wanted,) = _ask.bind(jax.tree.leaves(gradient)[0], host=host)
            if isinstance(wanted, Tracer):
                squares = jax.lax.cond(wanted, measured, unmeasured)
            else:
                squares = measured() if wanted else unmeasured()
            _tell.bind(jax.lax.stop_gradient(self.loss), *squares, host=host)
        return gradient


def _squares(gradient: Any, by_penalty: Any) -> tuple[Any, Any]:
    """The squared norms of the gradient of the loss, which is the rest of the whole one, and of the penalty's."""
    leaves = zip(jax.tree.leaves(gradient), jax.tree.leaves(by_penalty), strict=True)
    # JAX's gradients of integers are no numbers.
    pairs = [(whole - its, its) for whole, its in leaves if jnp.issubdtype(whole.dtype, jnp.inexact)]
    by_loss, its = squared_norms([mine for mine, _ in pairs], [its for _, its in pairs])
    return jnp.asarray(by_loss, float), jnp.asarray(its, float)


@dataclass(frozen=True, eq=False)
class _Told:
    """Whom a compiled program asks and tells; as a `Host`, for the lowering of a saved program."""

    by: Any
    terms: int = 1

    def wanted(self, _: Any) -> Any:
        """Whether the gradients are to be measured."""
        self.by.measuring = self.by.at_work and self.by.wants_gradients
        return np.asarray(self.by.measuring)

    def __call__(self, loss: Any, by_loss: Any, by_penalty: Any) -> None:
        self.by.measuring = False
        if self.by.at_work:
            self.by.trained(np.asarray(loss), [np.sqrt(by_loss)], [np.sqrt(by_penalty)])


def _tells(*numbers: Any, host: _Told) -> list[Any]:
    jax.debug.callback(host, *numbers)
    return []


def _asks(gradient: Any, *, host: _Told) -> list[Any]:
    """Asks the host, when the pass has ended: what follows is not counted as one."""
    return [jax.pure_callback(host.wanted, jax.ShapeDtypeStruct((), bool), jnp.ravel(gradient)[:1])]


def _ask_batched(inputs: Any, dims: Any, *, host: _Told) -> Any:
    return _ask.bind(jnp.take(inputs[0], 0, dims[0]), host=host), [None]


def _tell_batched(inputs: Any, dims: Any, *, host: _Told) -> Any:
    means = [x if dim is None else jnp.mean(x, dim) for x, dim in zip(inputs, dims, strict=True)]
    return _tell.bind(*means, host=host), []


_tell, _ask = Primitive("solvertap_tell"), Primitive("solvertap_ask")
_tell.multiple_results = _ask.multiple_results = True
_EFFECTS = jax.make_jaxpr(lambda: jax.debug.callback(lambda: None))().effects
_tell.def_impl(_tells)
_tell.def_effectful_abstract_eval(lambda *_, **__: ([], _EFFECTS))
_ask.def_impl(_asks)
_ask.def_abstract_eval(lambda *_, **__: [ShapedArray((), np.dtype(bool))])
ad.primitive_jvps[_tell] = lambda primals, _, **settings: (_tell.bind(*primals, **settings), [])
batching.primitive_batchers[_tell], batching.primitive_batchers[_ask] = _tell_batched, _ask_batched
register_lowering(_tell, _tells, ahead=lambda *_, **__: [])
register_lowering(_ask, _asks, ahead=lambda *_, **__: [jnp.zeros((), bool)])
