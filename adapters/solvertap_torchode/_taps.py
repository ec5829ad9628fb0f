"""The taps on torchode.

Every solve, whichever way it is differentiated, runs in `AutoDiffAdjoint.solve`, which is looked up on its class at
each call. If somebody observes, that loop is given a `TappedAdjoint` in the place of its object; nothing is exchanged
in the object, so that threads may share it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import FunctionType
from typing import Any

from torchode import adjoints, interface
from torchode.single_step_methods.euler import Euler

from solvertap.adapting import Adapter, Patches, Solve, open_solve, require, require_parameters
from solvertap.errors import FixedStepError
from solvertap_torch.backward import refuse_without_gradient, tap_backward
from solvertap_torch.random_layers import random_layers

from ._reference_steps import with_reference_steps
from ._tapped import TappedAdjoint


def attach(adapter: Adapter, patches: Patches) -> None:
    """Places every tap. The files and functions named here are those of torchode 1.0.1."""
    require(adjoints.AutoDiffAdjoint, "step_method", "step_size_controller", "max_steps")
    require_parameters(adjoints.AutoDiffAdjoint.solve, "problem", "term", "dt0", "args")
    require(adjoints, "UnwrappingODETerm")
    patches.replace(adjoints.AutoDiffAdjoint, "solve", lambda original: _tapped_solve(adapter, original))
    tap_backward(patches, adjoints.BacksolveFunction, "adjoint")


def _tapped_solve(adapter: Adapter, original: Callable[..., Any]) -> Callable[..., Any]:
    def observed(adjoint: Any, problem: Any, term: Any = None, dt0: Any = None, args: Any = None) -> Any:
        solve = open_solve(adapter, like=problem.y0, batch=problem.batch_size)
        if solve is None:
            return original(adjoint, problem, term, dt0, args)
        solve.method = _name_of(adjoint.step_method)
        if solve.trace_wanted:
            solve.random_layers = random_layers(getattr(term, "f", None))
        joint = isinstance(term, adjoints.UnwrappingODETerm)
        refuse_without_gradient(solve, "JointBacksolveAdjoint" if joint else "BacksolveAdjoint", "AutoDiffAdjoint")
        _refuse_euler(solve, adjoint.step_method)
        tapped = TappedAdjoint(adjoint, solve, problem, term, args)
        if solve.align:
            with_reference_steps(tapped, solve)
        with solve:
            solution = original(tapped, problem, term, dt0, args)
        solution.ys = solve.through(solution.ys)
        return solution

    def solve(self: Any, *args: Any, **kwargs: Any) -> Any:
        return observed(self, *args, **kwargs)

    # `torch.jit.script` finds the source of what `wraps` leads to, and its names in the globals of what it was given.
    known = FunctionType(solve.__code__, original.__globals__, original.__name__, None, solve.__closure__)
    return wraps(original)(known)


def _refuse_euler(solve: Solve, method: Any) -> None:
    if isinstance(method, Euler) and solve.terms:
        solve.refuse(
            FixedStepError(
                "A penalty was asked of torchode's `Euler`, which estimates no error. Use a method such as "
                "`Dopri5`. `observe()` without a term still counts."
            ),
            sampled=True,
        )


def _name_of(method: Any) -> str:
    """The name of a method in `solve_ivp(method=...)`; else that of its class."""
    kind = type(method)
    return next((name for name, each in interface.METHODS.items() if each is kind), kind.__name__)
