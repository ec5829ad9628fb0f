"""The torchdiffeq adapter of solvertap. Importing it imports no framework."""

from __future__ import annotations

from typing import Any

from solvertap import Adapter, Patches, hookimpl


class TorchdiffeqAdapter(Adapter):
    """Observes `odeint`, `odeint_event` and `odeint_dense` of torchdiffeq; counts under `odeint_adjoint`."""

    name = "torchdiffeq"
    module = "torchdiffeq"
    distribution = "torchdiffeq"
    tested = ">=0.2.4,<0.2.6"

    def attach(self, patches: Patches) -> None:
        from ._recording import attach

        attach(self, patches)

    def constant(self, x: Any) -> Any:
        return x.detach()

    def to_numpy(self, x: Any) -> Any:
        return x.detach().cpu().numpy()


@hookimpl
def solvertap_adapters() -> list[Adapter]:
    """The one adapter this plugin brings."""
    return [TorchdiffeqAdapter()]
