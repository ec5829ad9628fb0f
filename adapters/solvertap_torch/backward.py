"""A `torch.autograd.Function` that solves in both passes: forward without gradient, backward once more."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any

import torch

from solvertap import Patches, Solve, later
from solvertap.errors import ContinuousAdjointError, GradientDisabledError

_inside: ContextVar[str | None] = ContextVar("solvertap_torch_inside", default=None)


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
    solve.abandon()
    inside = _inside.get()
    if inside == "adjoint":
        raise ContinuousAdjointError(
            f"A penalty was asked of `{adjoint}`, whose backward pass never sees the forward steps, so that it would "
            f"have no gradient; use `{instead}`, or `observe()` without a term for counts."
        )
    if inside == "recomputation":
        raise GradientDisabledError(
            "A penalty was asked inside `torch.utils.checkpoint` with `use_reentrant=True`, which records no gradient "
            "of what leaves by another way than its result; pass `use_reentrant=False`, or use `observe()` without a "
            "term for counts."
        )
    raise GradientDisabledError(
        "A penalty was asked where gradients are switched off (`torch.no_grad` or inference mode); enable them, "
        "or use `observe()` without a term for counts."
    )


def _tapped_forward(forward: Callable[..., Any], phase: str) -> Callable[..., Any]:
    @wraps(forward)
    def tapped(ctx: Any, *args: Any) -> Any:
        ctx.solvertap_later = later(phase)
        token = _inside.set(phase)
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
