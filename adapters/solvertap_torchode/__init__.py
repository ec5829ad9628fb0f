"""The torchode adapter of solvertap. Importing it imports no framework."""

from __future__ import annotations

from solvertap import hookimpl
from solvertap.adapting import Adapter, Patches, Serves, Trial
from solvertap_torch import TorchArrays


class TorchodeAdapter(TorchArrays):
    """Observes every solve of torchode as a batch, each sample with its own steps; counts under its adjoints."""

    name = "torchode"
    module = "torchode"
    distribution = "torchode"
    tested = ">=1.0,<1.1"
    serves = Serves(samples=True, align=True, regularize=True, batches=True)

    def attach(self, patches: Patches) -> None:
        from ._taps import attach

        attach(self, patches)

    def trial(self, device: str | None = None) -> Trial:
        from ._trial import TorchodeTrial

        return TorchodeTrial(device)


@hookimpl
def solvertap_adapters() -> list[Adapter]:
    """The one adapter this plugin brings."""
    return [TorchodeAdapter()]
