"""The torchsde adapter of solvertap. Importing it imports no framework."""

from __future__ import annotations

from solvertap import hookimpl
from solvertap.adapting import Adapter, Patches, Serves, Trial
from solvertap_torch import TorchArrays


class TorchsdeAdapter(TorchArrays):
    """Observes `sdeint` of torchsde with `adaptive=True`; counts in every `sdeint` and under `sdeint_adjoint`."""

    name = "torchsde"
    module = "torchsde"
    distribution = "torchsde"
    tested = ">=0.2.6,<0.2.7"
    serves = Serves(samples=True, replay=True, align=True, checkpoint=True, regularize=True)

    def attach(self, patches: Patches) -> None:
        from ._taps import attach

        attach(self, patches)

    def trial(self, device: str | None = None) -> Trial:
        from ._trial import TorchsdeTrial

        return TorchsdeTrial(device)


@hookimpl
def solvertap_adapters() -> list[Adapter]:
    """The one adapter this plugin brings."""
    return [TorchsdeAdapter()]
