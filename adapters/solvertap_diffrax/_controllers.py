"""Controllers that carry data of every attempted step.

diffrax keeps the controller state after every attempt, but drops the solver state of a rejected step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from solvertap.adapting import Groups, TraceBuffer
from solvertap_jax.structure import with_row


class CarryingController(diffrax.AbstractStepSizeController[Any, Any]):
    """A controller around the user's that carries data of its own beside the user's state."""

    controller: eqx.AbstractVar[diffrax.AbstractStepSizeController[Any, Any]]

    def __getattr__(self, name: str) -> Any:
        # An event may read any attribute of the controller.
        if name == "controller" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.controller, name)

    def start(self, y0: Any) -> Any:
        """The data before the first attempt."""
        raise NotImplementedError

    def advance(self, carried: Any, keep: Any, made_jump: Any, y_error: Any) -> Any:
        """The data after another attempt."""
        raise NotImplementedError

    def error(self, y_error: Any) -> Any:
        """The error for the user's controller."""
        return y_error

    def around(self, controller: Any) -> CarryingController:
        """The same controller around another."""
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
        state, carried = controller_state
        keep, next_t0, next_t1, made_jump, state, result = self.controller.adapt_step_size(
            t0, t1, y0, y1_candidate, args, self.error(y_error), error_order, state
        )
        return keep, next_t0, next_t1, made_jump, (state, self.advance(carried, keep, made_jump, y_error)), result


class CountedController(CarryingController):
    """Counts the attempts that evaluate their first slope, which diffrax does not count.

    A first-same-as-last method reuses the last slope of the previous step, except until its first step is accepted, and
    after a jump. There an attempt begins anew. The data are whether the next attempt begins anew, and how many did.
    """

    controller: diffrax.AbstractStepSizeController[Any, Any]
    anew: Any

    def start(self, y0: Any) -> Any:  # noqa: ARG002  # the base's signature
        return jnp.asarray(self.anew), jnp.asarray(0)

    def advance(self, carried: Any, keep: Any, made_jump: Any, y_error: Any) -> Any:  # noqa: ARG002  # likewise
        anew, counted = carried
        # _integrate.py::loop: `made_jump`, like the solver state, belongs to the last accepted step.
        return jnp.where(keep, made_jump, anew), counted + anew


class TracedController(CarryingController):
    """Records the trace row of every attempted step, which the tapped solver returns with its error."""

    controller: diffrax.AbstractStepSizeController[Any, Any]
    capacity: int = eqx.field(static=True)
    groups: Groups | None = eqx.field(static=True)

    def start(self, y0: Any) -> Any:
        # Its arrays alone: diffrax allows no empty tuple in a state under `BacksolveAdjoint`.
        first = jnp.asarray(jax.tree.leaves(y0)[0])
        return jax.tree.map(jnp.asarray, jax.tree.leaves(TraceBuffer.start(first, self.capacity, self.groups)))

    def advance(self, carried: Any, keep: Any, made_jump: Any, y_error: Any) -> Any:  # noqa: ARG002  # likewise
        buffer = buffer_of(carried, self.groups)
        return jax.tree.leaves(buffer.append(y_error.row._replace(accepted=keep), with_row))

    def error(self, y_error: Any) -> Any:
        return y_error.error


def buffer_of(arrays: list[Any], groups: Groups | None) -> TraceBuffer:
    """The trace with these arrays."""
    structure = jax.tree.structure(TraceBuffer.start(np.zeros(1), 1, groups))
    return jax.tree.unflatten(structure, arrays)  # type: ignore[no-any-return]


class _Adaptive(diffrax.AbstractAdaptiveStepSizeController[Any, Any]):
    """Exposes the tolerances of the user's controller, which diffrax reads."""

    rtol: Any
    atol: Any
    norm: Any

    def around(self: Any, controller: Any) -> Any:
        return replace(self, controller=controller, **_tolerances(controller))


class CountedAdaptiveController(_Adaptive, CountedController):
    """`CountedController` for a controller that has tolerances."""


class TracedAdaptiveController(_Adaptive, TracedController):
    """`TracedController` for a controller that has tolerances."""


def counted(controller: Any, anew: Any) -> CarryingController:
    """The counted form of a controller; `anew` says whether the first attempt begins anew."""
    if _is_adaptive(controller):
        return CountedAdaptiveController(controller=controller, anew=anew, **_tolerances(controller))
    return CountedController(controller=controller, anew=anew)


def traced(controller: Any, capacity: int, groups: Groups | None) -> CarryingController:
    """The traced form of a controller, for at most `capacity` steps."""
    kept = {"controller": controller, "capacity": capacity, "groups": groups}
    if _is_adaptive(controller):
        return TracedAdaptiveController(**kept, **_tolerances(controller))
    return TracedController(**kept)


def _is_adaptive(controller: Any) -> bool:
    return isinstance(controller, diffrax.AbstractAdaptiveStepSizeController)


def _tolerances(controller: Any) -> dict[str, Any]:
    return {name: getattr(controller, name) for name in ("rtol", "atol", "norm")}
