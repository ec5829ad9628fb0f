"""What rides through a solve beside the user's own states, and how it gets off."""

from __future__ import annotations

from typing import Any

import diffrax
import equinox as eqx

from ._controllers import RidingController
from ._prepared import prepared


def ride(arguments: dict[str, Any], controller: RidingController) -> None:
    """Puts a controller around the user's into the arguments."""
    arguments["stepsize_controller"] = controller
    arguments["saveat"] = eqx.tree_at(lambda s: s.controller_state, arguments["saveat"], True)
    if arguments["controller_state"] is not None:
        arguments["controller_state"] = (arguments["controller_state"], controller.start(prepared(arguments).y0))


def got_off(solution: Any, name: str) -> tuple[Any, Any]:
    """The solution with the user's own state, and what rode beside it."""
    own, beside = getattr(solution, name)
    return replace(solution, name, own), beside


def keep_backward(arguments: dict[str, Any]) -> None:
    """Has the solve backwards in time of `BacksolveAdjoint`, which nobody is to fold, be what it would be."""
    adjoint = arguments["adjoint"]
    if isinstance(adjoint, diffrax.BacksolveAdjoint):
        # _adjoint.py::_loop_backsolve_bwd takes what `diffeqsolve` has made of them.
        controller = arguments["stepsize_controller"].wrap(prepared(arguments).direction)
        own = {"solver": arguments["solver"], "stepsize_controller": controller, **adjoint.kwargs}
        arguments["adjoint"] = eqx.tree_at(lambda a: a.kwargs, adjoint, own, is_leaf=lambda x: x is adjoint.kwargs)


def replace(solution: Any, name: str, value: Any) -> Any:
    """The solution with another value in one of its fields."""
    return eqx.tree_at(lambda s: getattr(s, name), solution, value, is_leaf=lambda x: x is None)
