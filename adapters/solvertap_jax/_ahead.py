"""Programs that JAX saves: those lowered ahead of time (`lower`, `jax.export`), and those in its persistent cache.

A program with callbacks into this process cannot be saved or run in another process. So the lowering of a saved program
leaves out what `regularize` has added: the program counts nothing and carries no penalty.
"""

# mypy: allow-untyped-calls
# JAX's lowering functions have no types.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

import jax
from jax.interpreters import mlir

from solvertap.adapting import Patches, require_parameters

_AHEAD = (
    "A program with a solve was lowered ahead of time (`lower`, `jax.export`); so that it can be saved, it counts "
    "nothing and carries no penalty. Call the jitted function itself to train."
)
_CACHED = (
    "JAX's persistent compilation cache is on, and it saves no program with callbacks, so compiled programs do not "
    "count solves without a term. To count, switch it off: `jax.config.update('jax_enable_compilation_cache', False)`."
)

_rules: list[tuple[Any, Any]] = []
"""The lowering of each primitive in a program that is saved."""


def attach(patches: Patches) -> None:
    """Places the tap: in JAX 0.8 to 0.10 `jit(f).lower` and `jax.export` end in `Traced.lower`, and no call does."""
    require_parameters(jax.stages.Traced.lower, "_private_parameters")
    patches.replace(jax.stages.Traced, "lower", _tapped_lower)


def register_lowering(primitive: Any, rule: Callable[..., Any], ahead: Callable[..., Any]) -> None:
    """Registers the lowering of a primitive: the function `rule`, or `ahead` in a program that is saved."""

    def of(function: Callable[..., Any]) -> Any:
        return mlir.lower_fun(function, multiple_results=primitive.multiple_results)

    usual, instead = of(rule), of(ahead)

    def lower_ahead(context: Any, *operands: Any, **settings: Any) -> Any:
        settings["host"].by.left_out.expect(_AHEAD)
        return instead(context, *operands, **settings)

    def lower_now(context: Any, *operands: Any, **settings: Any) -> Any:
        host = settings["host"]
        if host.terms or not _cache_is_on():
            return usual(context, *operands, **settings)
        host.by.left_out.expect(_CACHED)
        return instead(context, *operands, **settings)

    mlir.register_lowering(primitive, lower_now)
    _rules.append((primitive, lower_ahead))


def _tapped_lower(lower: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(lower)
    def tapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not _rules:  # nothing was ever added to a program
            return lower(self, *args, **kwargs)
        parameters = kwargs.get("_private_parameters") or mlir.LoweringParameters()
        rules = (*(parameters.override_lowering_rules or ()), *_rules)
        kwargs["_private_parameters"] = replace(parameters, override_lowering_rules=rules)
        return lower(self, *args, **kwargs)

    return tapped


def _cache_is_on() -> bool:
    config: Any = jax.config
    return bool(config.jax_enable_compilation_cache and config.jax_compilation_cache_dir)
