"""The adapter of solvertap for `jax.experimental.ode.odeint`. Importing it imports no framework."""

from __future__ import annotations

from solvertap import hookimpl
from solvertap.adapting import Adapter, Patches, Serves, Trial
from solvertap_jax import JaxArrays


class JaxOdeAdapter(JaxArrays):
    """Observes `odeint`, whose steps carry no gradient: its backward pass is a continuous adjoint."""

    name = "jax_ode"
    module = "jax.experimental.ode"
    distribution = "jax"
    tested = ">=0.8,<0.11"
    serves = Serves(terms=False, samples=True, replay=True, align=True, regularize=True)

    def attach(self, patches: Patches) -> None:
        from ._odeint import attach

        attach(self, patches)

    def trial(self, device: str | None = None) -> Trial:
        from ._trial import JaxOdeTrial

        return JaxOdeTrial(device)


@hookimpl
def solvertap_adapters() -> list[Adapter]:
    """The one adapter this plugin brings."""
    return [JaxOdeAdapter()]
