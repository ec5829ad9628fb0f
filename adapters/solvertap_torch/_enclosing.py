"""The user's `torch.autograd.Function` that a solve without gradients runs in."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from torch.autograd import function

_FRAMES = 40  # torchdiffeq has about eight between a solve and the function around it

# function.py: one calls every `forward`, the other every `backward`.
_APPLY: Any = function.Function.apply.__func__.__code__  # type: ignore[attr-defined]  # a class method
_GO_BACK: Any = function.BackwardCFunction.apply.__code__


class Enclosing(NamedTuple):
    """The innermost running function.

    Attributes:
        name: of its class.
        backward: whether its backward pass is running.
        differentiated: whether its forward pass is running and a backward pass can follow.
    """

    name: str
    backward: bool
    differentiated: bool


def enclosing() -> Enclosing | None:
    """The function whose forward or backward pass is running. The search takes a few microseconds."""
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
    # torch/csrc/autograd/python_function.cpp, THPFunction_apply: the context has `next_functions` only if gradients
    # were recorded outside. A class with `setup_context` has no context yet.
    context = next(iter(forward.f_locals.values()), None) if forward is not None else None
    if isinstance(context, function.FunctionCtx):
        return bool(getattr(context, "next_functions", ()))
    return any(getattr(x, "requires_grad", False) for x in inputs)
