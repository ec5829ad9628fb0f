"""Programs that JAX compiles to keep: those lowered ahead of time (`lower`, `jax.export`), and its persistent cache.

A program that calls this process back cannot be kept, or run in another. So what `regularize` has put into it is left
out of it when it is lowered: it counts nothing and carries no penalty.
"""

# mypy: allow-untyped-calls
# What lowers a primitive has no types in JAX.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

import jax
from jax.interpreters import mlir

from solvertap.adapting import Patches, require_parameters

_AHEAD = (
    "A program with a solve in it was lowered ahead of time (`lower`, `jax.export`); so that it can be saved, it "
    "counts nothing and carries no penalty. Call the jitted function itself to train."
)
_CACHED = (
    "JAX's persistent compilation cache is on, and keeps no program that calls back; so solves without a term are not "
    "counted in compiled programs. Switch it off, `jax.config.update('jax_enable_compilation_cache', False)`, to count."
)

_rules: list[tuple[Any, Any]] = []
"""How each primitive is lowered into a program that is kept."""


def attach(patches: Patches) -> None:
    """Places the tap: in JAX 0.8 to 0.10 `jit(f).lower` and `jax.export` end in `Traced.lower`, and no call does."""
    require_parameters(jax.stages.Traced.lower, "_private_parameters")
    patches.replace(jax.stages.Traced, "lower", _tapped_lower)


def lowered(primitive: Any, rule: Callable[..., Any], kept: Callable[..., Any]) -> None:
    """Says how a primitive is lowered: by a function of its operands and settings, and by another where it is kept."""

    def of(function: Callable[..., Any]) -> Any:
        return mlir.lower_fun(function, multiple_results=primitive.multiple_results)

    usual, instead = of(rule), of(kept)

    def ahead(context: Any, *operands: Any, **settings: Any) -> Any:
        settings["host"].injection.by.left_out.expect(_AHEAD)
        return instead(context, *operands, **settings)

    def now(context: Any, *operands: Any, **settings: Any) -> Any:
        host = settings["host"]
        if host.terms or not _cache_is_on():
            return usual(context, *operands, **settings)
        host.injection.by.left_out.expect(_CACHED)
        return instead(context, *operands, **settings)

    mlir.register_lowering(primitive, now)
    _rules.append((primitive, ahead))


def _tapped_lower(lower: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(lower)
    def tapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not _rules:  # nothing was ever put into a program
            return lower(self, *args, **kwargs)
        parameters = kwargs.get("_private_parameters") or mlir.LoweringParameters()
        rules = (*(parameters.override_lowering_rules or ()), *_rules)
        kwargs["_private_parameters"] = replace(parameters, override_lowering_rules=rules)
        return lower(self, *args, **kwargs)

    return tapped


def _cache_is_on() -> bool:
    config: Any = jax.config
    return bool(config.jax_enable_compilation_cache and config.jax_compilation_cache_dir)
