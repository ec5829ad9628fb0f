"""The torchdyn adapter of solvertap. Importing it imports no framework."""

from __future__ import annotations

from solvertap import hookimpl
from solvertap.adapting import Adapter, Patches, Serves, Trial
from solvertap_torch import TorchArrays


class TorchdynAdapter(TorchArrays):
    """Observes `odeint` and `odeint_symplectic` of torchdyn, and so `NeuralODE` and `ODEProblem`.

    Of `odeint_hybrid` and `odeint_mshooting` it counts the evaluations. Under `sensitivity="adjoint"` and
    `"interpolated_adjoint"` it counts, in both passes.
    """

    name = "torchdyn"
    # Not `torchdyn`, which imports nothing; and not `torchdyn.core`, which imports Lightning.
    module = "torchdyn.numerics"
    distribution = "torchdyn"
    tested = ">=1.0.6,<1.1"
    serves = Serves(samples=True, align=True, checkpoint=True, regularize=True)

    def attach(self, patches: Patches) -> None:
        from ._taps import attach

        attach(self, patches)

    def trial(self, device: str | None = None) -> Trial:
        from ._trial import TorchdynTrial

        return TorchdynTrial(device)


@hookimpl
def solvertap_adapters() -> list[Adapter]:
    """The one adapter this plugin brings."""
    return [TorchdynAdapter()]
