"""The diffrax adapter of solvertap. Importing it imports no framework."""

from __future__ import annotations

from typing import Any

from solvertap import hookimpl
from solvertap.adapting import Adapter, Injection, Patches, Serves, Trial
from solvertap_jax import JaxArrays


class DiffraxAdapter(JaxArrays):
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

    def inject(self, solution: Any, injection: Injection) -> Any:
        from ._carrying import replace

        ys, interpolation = super().inject((solution.ys, solution.interpolation), injection)
        return replace(replace(solution, "ys", ys), "interpolation", interpolation)


@hookimpl
def solvertap_adapters() -> list[Adapter]:
    """The one adapter this plugin brings."""
    return [DiffraxAdapter()]
