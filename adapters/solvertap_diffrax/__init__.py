"""The diffrax adapter of solvertap. Importing it imports no framework."""

from __future__ import annotations

from typing import Any

from solvertap import hookimpl
from solvertap.adapting import Adapter, Injection, Patches, Serves, Trial


class DiffraxAdapter(Adapter):
    """Observes `diffeqsolve` of diffrax, inside and outside of JAX transformations."""

    name = "diffrax"
    module = "diffrax"
    distribution = "diffrax"
    tested = ">=0.7.2,<0.8"
    serves = Serves(samples=True, replay=True, align=True, checkpoint=True, regularize=True)

    def attach(self, patches: Patches) -> None:
        from ._diffeqsolve import attach

        attach(self, patches)

    def trial(self, device: str | None = None) -> Trial:
        from ._trial import DiffraxTrial

        return DiffraxTrial(device)

    def constant(self, x: Any) -> Any:
        from jax.lax import stop_gradient

        return stop_gradient(x)

    def analytic(self, terms: Any, steps: Any) -> Any:
        from ._analytic import analytic

        return analytic(terms, steps)

    def replayed(self, take: Any, again: Any, carried: Any, grid: Any) -> Any:  # noqa: ARG002  # JAX counts nothing
        from ._scan import replayed

        return replayed(take, carried, grid)

    def numbers(self, key: Any, index: int) -> Any:
        from ._random import numbers

        return numbers(key, index)

    def on_host(self, function: Any, stats: Any) -> None:
        import jax

        jax.debug.callback(lambda numbers: function(jax.tree.map(int, numbers)), stats)

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


@hookimpl
def solvertap_adapters() -> list[Adapter]:
    """The one adapter this plugin brings."""
    return [DiffraxAdapter()]
