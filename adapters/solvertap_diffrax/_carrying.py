"""Carrying data through a solve in the solver and controller states."""

from __future__ import annotations

from typing import Any

import diffrax
import equinox as eqx

from ._controllers import CarryingController
from ._prepared import prepared


def wrap_controller(arguments: dict[str, Any], controller: CarryingController) -> None:
    """Replaces the controller in the arguments by one that wraps it."""
    arguments["stepsize_controller"] = controller
    arguments["saveat"] = eqx.tree_at(lambda s: s.controller_state, arguments["saveat"], True)
    if arguments["controller_state"] is not None:
        arguments["controller_state"] = (arguments["controller_state"], controller.start(prepared(arguments).y0))


def split_state(solution: Any, name: str) -> tuple[Any, Any]:
    """The solution with the user's own state, and the data carried beside it."""
    own, beside = getattr(solution, name)
    return replace(solution, name, own), beside


def keep_backward(arguments: dict[str, Any]) -> None:
    """Gives the backward solve of `BacksolveAdjoint` the untapped solver and controller."""
    adjoint = arguments["adjoint"]
    if isinstance(adjoint, diffrax.BacksolveAdjoint):
        # _adjoint.py::_loop_backsolve_bwd expects the controller as `diffeqsolve` has wrapped it.
        controller = arguments["stepsize_controller"].wrap(prepared(arguments).direction)
        own = {"solver": arguments["solver"], "stepsize_controller": controller, **adjoint.kwargs}
        arguments["adjoint"] = eqx.tree_at(lambda a: a.kwargs, adjoint, own, is_leaf=lambda x: x is adjoint.kwargs)


def replace(solution: Any, name: str, value: Any) -> Any:
    """The solution with one field replaced."""
    return eqx.tree_at(lambda s: getattr(s, name), solution, value, is_leaf=lambda x: x is None)
