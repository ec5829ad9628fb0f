"""Which arguments of a call that solves are differentiated, as far as the arguments show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.interpreters import ad

_CLOSED = (str, bytes, int, float, complex, type, type(None), type(...), ModuleType, BuiltinFunctionType)
_ARRAYS = (np.ndarray, np.generic, np.ufunc, np.dtype, jax.Array)
_LIMIT = 10_000  # objects; a field with more is taken to depend on a differentiated value


def by_start_alone(start: Any, field: list[Any]) -> bool:
    """Whether a solve is differentiated by its initial state and times, but not by its field.

    False if unknown: arguments that are already staged out (inside `jit`, `scan`, `checkpoint`) may be differentiated
    later.

    Args:
        start: a pytree of the initial state and of the times.
        field: whatever the field may depend on.
    """
    return any(map(_is_differentiated, jax.tree.leaves(start))) and not _may_depend(list(field))


def _is_differentiated(x: Any) -> bool:
    if not isinstance(x, Tracer):
        return False
    tangent = getattr(x, "tangent", None)
    if tangent is not None and not isinstance(tangent, ad.Zero):
        return True
    # Under other transformations: the primal of a derivative, the array of a batch.
    return any(_is_differentiated(getattr(x, name, None)) for name in ("primal", "val"))


def _may_depend(waiting: list[Any]) -> bool:
    """Whether containers, attributes or closures lead to a differentiated value."""
    seen: dict[int, Any] = {}
    while waiting:
        x = waiting.pop()
        if isinstance(x, Tracer):
            if _is_differentiated(x):
                return True
        elif not isinstance(x, _CLOSED + _ARRAYS) and id(x) not in seen:
            seen[id(x)] = x
            within = _within(x)
            if within is None or len(seen) > _LIMIT:
                return True
            waiting += within
    return False


def _within(x: Any) -> Iterable[Any] | None:
    """The objects that an object holds; None if unknown."""
    if isinstance(x, Mapping):
        return x.values()
    if isinstance(x, list | tuple | set | frozenset):
        return x
    if isinstance(x, partial):
        return [x.func, *x.args, *x.keywords.values()]
    if isinstance(x, MethodType):
        return [x.__self__, x.__func__]
    if isinstance(x, FunctionType):
        return [*map(_content, x.__closure__ or ()), x.__defaults__, x.__kwdefaults__, vars(x)]
    if hasattr(x, "__wrapped__"):  # a function that JAX has compiled
        return [x.__wrapped__]
    slots = [name for cls in type(x).__mro__ for name in _names(vars(cls).get("__slots__", ()))]
    return [getattr(x, name) for name in (*slots, "__dict__") if hasattr(x, name)] or None


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # still empty
        return None


def _names(slots: Any) -> Iterable[str]:
    return (slots,) if isinstance(slots, str) else slots
