"""An `autograd.Function` that a library makes anew for each solve: no patch could be placed on it beforehand."""

from __future__ import annotations

from typing import Any

from .backward import tapped_apply, tapped_backward, tapped_forward


def tapped_function(function: Any, phase: str) -> Any:
    """A subclass of an `autograd.Function`, whose solves in the backward pass are a phase of their own.

    For a class that is made inside a function, where `tap_backward` finds nothing to patch: tap that function, and
    return `tapped_function(made, "adjoint")` instead of the class it has made. The class itself stays as it is.

    Args:
        function: a class with `forward(ctx, ...)` and `backward(ctx, ...)`, and without `setup_context`.
        phase: the phase of its backward pass, "adjoint" or "recomputation".
    """

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        inherited: Any = super(tapped, cls)
        return tapped_apply(inherited.apply, phase)(*args, **kwargs)

    attributes = {
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
        "apply": classmethod(apply),
        "forward": staticmethod(tapped_forward(function.forward, phase)),
        "backward": staticmethod(tapped_backward(function.backward, phase)),
    }
    # Not by a class statement: torch names the node of a graph when the class is made.
    tapped: Any = type(function)(function.__name__, (function,), attributes)
    return tapped
