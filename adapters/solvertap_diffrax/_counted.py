"""The controller that counts the attempts whose first slope the solver does not know.

A first-same-as-last method begins with the slope with which it ended, but evaluates it anew until its first step is
accepted, and after a jump. How often that was diffrax does not tell, and a rejected attempt leaves nothing in the
solver state: the controller state is kept always.
"""

from __future__ import annotations

from typing import Any

import diffrax
import jax.numpy as jnp


class CountedController(diffrax.AbstractStepSizeController[Any, Any]):
    """A controller whose state has whether the next attempt begins anew, and how many did."""

    controller: diffrax.AbstractStepSizeController[Any, Any]
    anew: Any

    @classmethod
    def of(cls, controller: Any, anew: Any) -> CountedController:
        """The counted form of a controller, for a solve that begins anew or not."""
        return cls(controller=controller, anew=anew)

    def __getattr__(self, name: str) -> Any:
        # An event may ask the controller of the solve for whatever that has.
        if name == "controller" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.controller, name)

    def start(self) -> tuple[Any, Any]:
        """What is counted before the first attempt."""
        return jnp.asarray(self.anew), jnp.asarray(0)

    def wrap(self, direction: Any) -> Any:
        return type(self).of(self.controller.wrap(direction), self.anew)

    def init(
        self, terms: Any, t0: Any, t1: Any, y0: Any, dt0: Any, args: Any, func: Any, error_order: Any
    ) -> tuple[Any, Any]:
        tnext, state = self.controller.init(terms, t0, t1, y0, dt0, args, func, error_order)
        return tnext, (state, self.start())

    def adapt_step_size(
        self,
        t0: Any,
        t1: Any,
        y0: Any,
        y1_candidate: Any,
        args: Any,
        y_error: Any,
        error_order: Any,
        controller_state: Any,
    ) -> tuple[Any, Any, Any, Any, Any, Any]:
        state, (anew, counted) = controller_state
        keep, next_t0, next_t1, made_jump, state, result = self.controller.adapt_step_size(
            t0, t1, y0, y1_candidate, args, y_error, error_order, state
        )
        # _integrate.py::loop: `made_jump`, like the solver state, is that of the last accepted step.
        counts = jnp.where(keep, made_jump, anew), counted + anew
        return keep, next_t0, next_t1, made_jump, (state, counts), result


class CountedAdaptiveController(CountedController, diffrax.AbstractAdaptiveStepSizeController[Any, Any]):
    """The same for a controller that has tolerances, which diffrax reads from it."""

    rtol: Any
    atol: Any
    norm: Any

    @classmethod
    def of(cls, controller: Any, anew: Any) -> CountedAdaptiveController:
        tolerances = {name: getattr(controller, name) for name in ("rtol", "atol", "norm")}
        return cls(controller=controller, anew=anew, **tolerances)


def counted(controller: Any, anew: Any) -> CountedController:
    """The counted form of a controller of either kind."""
    adaptive = isinstance(controller, diffrax.AbstractAdaptiveStepSizeController)
    return (CountedAdaptiveController if adaptive else CountedController).of(controller, anew)
