"""What the adapters of JAX's solvers share, and the adapter of JAX itself. Importing it imports no framework.

Public for authors of JAX adapters: `JaxArrays`, the base of an adapter; `JaxTrial`, the base of its trial. The other
modules serve the adapters of this distribution.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from solvertap import hookimpl
from solvertap.adapting import Adapter, Injection, Patches, Serves, Steps

if TYPE_CHECKING:
    from .trial import JaxTrial

__all__ = ["JaxArrays", "JaxTrial"]


def __getattr__(name: str) -> Any:
    """Imports what needs JAX when it is first used."""
    if name != "JaxTrial":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(".trial", __name__).JaxTrial


class JaxArrays(Adapter):
    """An adapter whose arrays are JAX's, inside and outside of its transformations.

    A solve of it needs a key of `jax.random` for `LocalSample`. `through` takes any pytree for the solution; its
    inexact arrays carry the gradient that `regularize` adds.
    """

    serves = Serves(regularize=True)

    def constant(self, x: Any) -> Any:
        from jax.lax import stop_gradient

        return stop_gradient(x)

    def analytic(self, terms: Any, steps: Any) -> Any:
        from ._analytic import analytic

        # Of a batch, which no traced loop opens, the formulas are differentiated as they stand.
        return None if isinstance(steps[0], Steps) else analytic(terms, steps)

    def mapped(self, function: Any) -> Any:
        from jax import vmap

        return vmap(function)

    def replayed(self, take: Any, again: Any, carried: Any, grid: Any) -> Any:  # noqa: ARG002  # JAX counts nothing
        from ._scan import replayed

        return replayed(take, carried, grid)

    def numbers(self, key: Any, index: int) -> Any:
        from ._random import numbers

        return numbers(key, index)

    def with_row(self, table: Any, n: Any, row: Any) -> Any:
        from .structure import with_row

        return with_row(table, n, row)

    def on_host(self, function: Any, seen: Any) -> None:
        import jax

        jax.debug.callback(lambda seen: function(jax.tree.map(_number, seen)), seen)

    def soon(self, values: Any) -> Any:
        def numbers() -> list[float] | None:
            if any(hasattr(x, "is_ready") and not x.is_ready() for x in values):
                return None
            return [float(x) for x in values]

        return numbers

    def inject(self, solution: Any, injection: Injection) -> Any:
        from ._injection import inject

        return inject(solution, injection)

    def has_outlived(self, x: Any) -> bool:
        from jax.core import Tracer
        from jax.errors import UnexpectedTracerError

        try:
            # JAX raises when an escaped tracer is used.
            return isinstance(x, Tracer) and x + 0 is None
        except UnexpectedTracerError:
            return True

    def trace_context(self) -> object:
        import jax.core
        import jax.extend.core

        # It moved from `jax.core` to `jax.extend.core` after JAX 0.8.
        home: Any = jax.extend.core if hasattr(jax.extend.core, "get_opaque_trace_state") else jax.core
        return home.get_opaque_trace_state()


def _number(x: Any) -> Any:
    """A count as a number; what has several entries stays an array."""
    return int(x) if getattr(x, "ndim", 0) == 0 else x


class JaxAdapter(JaxArrays):
    """Taps the lowering of programs that are saved, which must hold no callback of this process, and the losses."""

    name = "jax"
    module = "jax"
    distribution = "jax"
    tested = ">=0.8,<0.11"
    serves = Serves(terms=False, trace=False)  # JAX solves nothing

    def attach(self, patches: Patches) -> None:
        from . import _ahead, _loss

        _ahead.attach(patches)
        _loss.attach(patches)


@hookimpl
def solvertap_adapters() -> list[Adapter]:
    """The one adapter this plugin brings."""
    return [JaxAdapter()]
