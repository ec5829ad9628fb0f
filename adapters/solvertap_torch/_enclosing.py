"""Whether a solve without gradients is that of somebody's own `torch.autograd.Function`."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from torch.autograd import function

_FRAMES = 40  # of torchdiffeq's own loop there are about eight between a solve and its function

# function.py: both are Python functions, one around every `forward`, the other around every `backward`.
_APPLY: Any = function.Function.apply.__func__.__code__  # type: ignore[attr-defined]  # a class method
_GO_BACK: Any = function.BackwardCFunction.apply.__code__


class Enclosing(NamedTuple):
    """The innermost function at work.

    Attributes:
        name: of its class.
        backward: whether it is in its backward pass.
        differentiated: in its forward pass, whether there will be a backward pass.
    """

    name: str
    backward: bool
    differentiated: bool


def enclosing() -> Enclosing | None:
    """The one in whose forward or backward pass this is called; a few microseconds, for solves without gradients."""
    frame, below = sys._getframe(1), None
    for _ in range(_FRAMES):
        code = frame.f_code
        if code is _APPLY:
            named = frame.f_locals
            return Enclosing(named["cls"].__name__, False, _is_differentiated(below, named["args"]))
        if code is _GO_BACK:
            return Enclosing(type(frame.f_locals["self"]).__name__.removesuffix("Backward"), True, False)
        if frame.f_back is None:
            return None
        frame, below = frame.f_back, frame
    return None


def _is_differentiated(forward: Any, inputs: Any) -> bool:
    # torch/csrc/autograd/python_function.cpp, THPFunction_apply: a context leads on to the graph of the inputs only
    # where gradients were recorded outside. Where `setup_context` has the context, it is not there yet.
    context = next(iter(forward.f_locals.values()), None) if forward is not None else None
    if isinstance(context, function.FunctionCtx):
        return bool(getattr(context, "next_functions", ()))
    return any(getattr(x, "requires_grad", False) for x in inputs)
