"""A `torch.autograd.Function` that solves in both passes: forward without gradient, backward once more."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any, NamedTuple

import torch

from solvertap import Patches, Solve, later
from solvertap.errors import ContinuousAdjointError, GradientDisabledError, PenaltyRefusedError


class _Function(NamedTuple):
    """A function whose forward pass is at work: its phase in the backward pass, and whether there will be one."""

    phase: str
    differentiated: bool


_inside: ContextVar[_Function | None] = ContextVar("solvertap_torch_inside", default=None)


def differentiates() -> bool:
    """Whether gradients are recorded, by torch or by the function that solves without."""
    function = _inside.get()
    return torch.is_grad_enabled() if function is None else function.differentiated


def tap_backward(patches: Patches, function: Any, phase: str) -> None:
    """Counts what the function solves in its backward pass as a phase of its own, and never as the forward pass."""
    patches.replace(function, "forward", lambda original: staticmethod(_tapped_forward(original.__func__, phase)))
    patches.replace(function, "backward", lambda original: staticmethod(_tapped_backward(original.__func__, phase)))


def refuse_without_gradient(solve: Solve, adjoint: str, instead: str) -> None:
    """Refuses a penalty where torch records no gradient.

    Args:
        solve: the solve about to start.
        adjoint, instead: the function whose backward pass solves an adjoint, and the one to use in its place.

    Raises:
        ContinuousAdjointError, GradientDisabledError: there would be no gradient, and why.
    """
    if not solve.fold.terms or torch.is_grad_enabled():
        return
    solve.refuse(_refusal(adjoint, instead))


def _refusal(adjoint: str, instead: str) -> PenaltyRefusedError:
    function = _inside.get()
    if function is not None and function.phase == "adjoint":
        return ContinuousAdjointError(
            f"A penalty was asked of `{adjoint}`, whose backward pass never sees the forward steps, so that it would "
            f"have no gradient; use `{instead}`, or `observe()` without a term for counts."
        )
    if function is not None and function.phase == "recomputation":
        return GradientDisabledError(
            "A penalty was asked inside `torch.utils.checkpoint` with `use_reentrant=True`, which records no gradient "
            "of what leaves by another way than its result; pass `use_reentrant=False`, or use `observe()` without a "
            "term for counts."
        )
    return GradientDisabledError(
        "A penalty was asked where gradients are switched off (`torch.no_grad` or inference mode); enable them, "
        "or use `observe()` without a term for counts."
    )


def _tapped_forward(forward: Callable[..., Any], phase: str) -> Callable[..., Any]:
    @wraps(forward)
    def tapped(ctx: Any, *args: Any) -> Any:
        ctx.solvertap_later = later(phase)
        token = _inside.set(_Function(phase, any(ctx.needs_input_grad)))
        try:
            return forward(ctx, *args)
        finally:
            _inside.reset(token)

    return tapped


def _tapped_backward(backward: Callable[..., Any], phase: str) -> Callable[..., Any]:
    @wraps(backward)
    def tapped(ctx: Any, *gradients: Any) -> Any:
        again = getattr(ctx, "solvertap_later", None) or later(phase)  # the forward pass may have run before us
        with again():
            return backward(ctx, *gradients)

    return tapped
