"""The problem that `diffeqsolve` makes of its arguments, computed as in `_integrate.py::diffeqsolve`."""

from __future__ import annotations

from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import lineax.internal as lxi
from diffrax._term import WrapTerm
from jax.lax import stop_gradient


class Prepared(NamedTuple):
    """The problem as the solver sees it.

    Attributes:
        terms: each in a `WrapTerm`.
        t0, t1: the user's times, in the dtype of time, without gradient.
        y0: the state, promoted by the dtype of time.
        direction: 1 forwards in time, -1 backwards; the solver's time is direction times the user's time.
    """

    terms: Any
    t0: Any
    t1: Any
    y0: Any
    direction: Any


def prepared(arguments: dict[str, Any]) -> Prepared:
    """The problem that a call with these arguments solves."""
    dtype = _time_dtype(arguments)
    t0, t1 = (stop_gradient(jnp.asarray(arguments[name], dtype)) for name in ("t0", "t1"))
    direction = jnp.where(t0 < t1, 1, -1)

    def promoted(y: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return jnp.asarray(y, jnp.result_type(y, dtype))

    terms = jax.tree.map(lambda term: WrapTerm(term, direction), arguments["terms"], is_leaf=_is_single)
    return Prepared(terms, t0, t1, jax.tree.map(promoted, arguments["y0"]), direction)


def tolerances(controller: Any) -> dict[str, Any]:
    """The tolerances and the norm of a controller, or of the one that it wraps; each None if missing."""
    if hasattr(controller, "rtol") and hasattr(controller, "atol"):
        return {name: getattr(controller, name, None) for name in ("rtol", "atol", "norm")}
    wrapped = [x for x in vars(controller).values() if isinstance(x, diffrax.AbstractStepSizeController)]
    return tolerances(wrapped[0]) if len(wrapped) == 1 else dict.fromkeys(("rtol", "atol", "norm"))


def _time_dtype(arguments: dict[str, Any]) -> Any:
    times = [arguments[name] for name in ("t0", "t1", "dt0") if arguments[name] is not None]
    subs = jax.tree.leaves(arguments["saveat"].subs, is_leaf=lambda x: isinstance(x, diffrax.SubSaveAt))
    times += [sub.ts for sub in subs if isinstance(sub, diffrax.SubSaveAt) and sub.ts is not None]
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.result_type(*times)
    return dtype if jnp.issubdtype(dtype, jnp.floating) else lxi.default_floating_dtype()


def _is_single(x: Any) -> bool:
    return isinstance(x, diffrax.AbstractTerm) and not isinstance(x, diffrax.MultiTerm)
