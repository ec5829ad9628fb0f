"""Controllers that keep something of every attempted step.

The controller state is kept always, where the solver state of a rejected step is thrown away.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from solvertap.adapting import TraceBuffer


class RidingController(diffrax.AbstractStepSizeController[Any, Any]):
    """A controller around the user's, beside whose state something of its own rides."""

    controller: eqx.AbstractVar[diffrax.AbstractStepSizeController[Any, Any]]

    def __getattr__(self, name: str) -> Any:
        # An event may ask the controller of the solve for whatever that has.
        if name == "controller" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.controller, name)

    def start(self, y0: Any) -> Any:
        """What rides before the first attempt."""
        raise NotImplementedError

    def advance(self, riding: Any, keep: Any, made_jump: Any, y_error: Any) -> Any:
        """What rides after one more attempt."""
        raise NotImplementedError

    def error(self, y_error: Any) -> Any:
        """The error that the user's controller is given."""
        return y_error

    def around(self, controller: Any) -> RidingController:
        """The same around another controller."""
        return replace(self, controller=controller)

    def wrap(self, direction: Any) -> Any:
        return self.around(self.controller.wrap(direction))

    def init(
        self, terms: Any, t0: Any, t1: Any, y0: Any, dt0: Any, args: Any, func: Any, error_order: Any
    ) -> tuple[Any, Any]:
        tnext, state = self.controller.init(terms, t0, t1, y0, dt0, args, func, error_order)
        return tnext, (state, self.start(y0))

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
        state, riding = controller_state
        keep, next_t0, next_t1, made_jump, state, result = self.controller.adapt_step_size(
            t0, t1, y0, y1_candidate, args, self.error(y_error), error_order, state
        )
        return keep, next_t0, next_t1, made_jump, (state, self.advance(riding, keep, made_jump, y_error)), result


class CountedController(RidingController):
    """Counts the attempts whose first slope the solver does not know.

    A first-same-as-last method begins with the slope with which it ended, but evaluates it anew until its first step is
    accepted, and after a jump. How often that was diffrax does not say. What rides is whether the next attempt begins
    anew, and how many did.
    """

    controller: diffrax.AbstractStepSizeController[Any, Any]
    anew: Any

    def start(self, y0: Any) -> Any:  # noqa: ARG002  # as it is called
        return jnp.asarray(self.anew), jnp.asarray(0)

    def advance(self, riding: Any, keep: Any, made_jump: Any, y_error: Any) -> Any:  # noqa: ARG002  # likewise
        anew, counted = riding
        # _integrate.py::loop: `made_jump`, like the solver state, is that of the last accepted step.
        return jnp.where(keep, made_jump, anew), counted + anew


class TracedController(RidingController):
    """Keeps the row of every attempted step, which the tapped solver hands over in the place of its error."""

    controller: diffrax.AbstractStepSizeController[Any, Any]
    capacity: int = eqx.field(static=True)

    def start(self, y0: Any) -> Any:
        return jax.tree.map(jnp.asarray, TraceBuffer.start(jnp.asarray(jax.tree.leaves(y0)[0]), self.capacity))

    def advance(self, riding: Any, keep: Any, made_jump: Any, y_error: Any) -> Any:  # noqa: ARG002  # likewise
        return riding.append(y_error.row._replace(accepted=keep))

    def error(self, y_error: Any) -> Any:
        return y_error.error


class _Adaptive(diffrax.AbstractAdaptiveStepSizeController[Any, Any]):
    """Has the tolerances of the user's controller, which diffrax reads from it."""

    rtol: Any
    atol: Any
    norm: Any

    def around(self: Any, controller: Any) -> Any:
        return replace(self, controller=controller, **_tolerances(controller))


class CountedAdaptiveController(_Adaptive, CountedController):
    """The same for a controller that has tolerances."""


class TracedAdaptiveController(_Adaptive, TracedController):
    """The same for a controller that has tolerances."""


def counted(controller: Any, anew: Any) -> RidingController:
    """The counted form of a controller, for a solve that begins anew or not."""
    if _is_adaptive(controller):
        return CountedAdaptiveController(controller=controller, anew=anew, **_tolerances(controller))
    return CountedController(controller=controller, anew=anew)


def traced(controller: Any, capacity: int) -> RidingController:
    """The traced form of a controller, for so many steps."""
    if _is_adaptive(controller):
        return TracedAdaptiveController(controller=controller, capacity=capacity, **_tolerances(controller))
    return TracedController(controller=controller, capacity=capacity)


def _is_adaptive(controller: Any) -> bool:
    return isinstance(controller, diffrax.AbstractAdaptiveStepSizeController)


def _tolerances(controller: Any) -> dict[str, Any]:
    return {name: getattr(controller, name) for name in ("rtol", "atol", "norm")}
