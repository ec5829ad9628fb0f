"""The torchdiffeq adapter of solvertap. Importing it imports no framework."""

from __future__ import annotations

from solvertap import hookimpl
from solvertap.adapting import Adapter, Patches, Serves, Trial
from solvertap_torch import TorchArrays


class TorchdiffeqAdapter(TorchArrays):
    """Observes `odeint`, `odeint_event` and `odeint_dense` of torchdiffeq; counts under `odeint_adjoint`."""

    name = "torchdiffeq"
    module = "torchdiffeq"
    distribution = "torchdiffeq"
    tested = ">=0.2.4,<0.2.6"
    serves = Serves(samples=True, replay=True, align=True, checkpoint=True, regularize=True)

    def attach(self, patches: Patches) -> None:
        from ._taps import attach

        attach(self, patches)

    def trial(self, device: str | None = None) -> Trial:
        from ._trial import TorchdiffeqTrial

        return TorchdiffeqTrial(device)


@hookimpl
def solvertap_adapters() -> list[Adapter]:
    """The one adapter this plugin brings."""
    return [TorchdiffeqAdapter()]
