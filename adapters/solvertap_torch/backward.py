"""A `torch.autograd.Function` that solves in both passes: forward without gradient, backward once more."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any, NamedTuple

import torch

from solvertap import Patches, Solve, later
from solvertap.errors import ContinuousAdjointError, GradientDisabledError

from ._scale import scaled


class _Function(NamedTuple):
    """A function whose forward pass is at work: its phase in the backward pass, and whether there will be one.

    `held` are weights and values whose gradient the backward pass is to add.
    """

    phase: str
    differentiated: bool
    held: list[tuple[list[Any], list[Any]]]


_inside: ContextVar[_Function | None] = ContextVar("solvertap_torch_inside", default=None)


def differentiates() -> bool:
    """Whether gradients are recorded, by torch or by the function that solves without."""
    function = _inside.get()
    return torch.is_grad_enabled() if function is None else function.differentiated


def hold(weights: list[Any], values: list[Any]) -> bool:
    """Has the backward pass of the function at work add weight times the gradient of each value; False if none is."""
    function = _inside.get()
    if function is None or function.phase != "adjoint" or torch.is_grad_enabled():
        return False
    function.held.append((weights, values))
    return True


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
    if not solve.terms or torch.is_grad_enabled():
        return
    function = _inside.get()
    if function is None or function.phase != "adjoint":
        solve.refuse(_disabled(function), sampled=True)
        return
    if solve.fold.terms:
        solve.refuse(
            ContinuousAdjointError(
                f"A penalty was asked of `{adjoint}`, whose backward pass never sees the forward steps, so that it "
                f"would have no gradient; use `{instead}`, or `LocalSample` around the term, which needs none of that, "
                "or `observe()` without a term for counts."
            )
        )
    if solve.sampling is not None and not function.differentiated:
        solve.refuse(
            GradientDisabledError(
                f"A penalty was asked of `{adjoint}` where gradients are switched off, or nothing requires one; enable "
                "them, or use `observe()` without a term for counts."
            ),
            sampled=True,
        )


def _disabled(function: _Function | None) -> GradientDisabledError:
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
        function = _Function(phase, any(ctx.needs_input_grad), [])
        token = _inside.set(function)
        try:
            result = forward(ctx, *args)
        finally:
            _inside.reset(token)
        if function.held:
            ctx.solvertap_held = _Held(args, function.held)
        return result

    return tapped


def _tapped_backward(backward: Callable[..., Any], phase: str) -> Callable[..., Any]:
    @wraps(backward)
    def tapped(ctx: Any, *gradients: Any) -> Any:
        again = getattr(ctx, "solvertap_later", None) or later(phase)  # the forward pass may have run before us
        with again():
            found = backward(ctx, *gradients)
        held = getattr(ctx, "solvertap_held", None)
        return found if held is None else held.added(found)

    return tapped


class _Held:
    """What the backward pass of a function adds to its gradients."""

    def __init__(self, inputs: tuple[Any, ...], held: list[tuple[list[Any], list[Any]]]) -> None:
        self.inputs = {i: x for i, x in enumerate(inputs) if isinstance(x, torch.Tensor) and x.requires_grad}
        self.weights = [weight for weights, _ in held for weight in weights]
        self.values = [value for _, values in held for value in values]

    def added(self, found: tuple[Any, ...]) -> tuple[Any, ...]:
        """The gradients by the inputs, those of the values included."""
        gradients = list(found)
        inputs = list(self.inputs.values())
        weights = scaled(self.weights, [(x.dtype, x.device) for x in self.values])
        more = torch.autograd.grad(self.values, inputs, weights, allow_unused=True, retain_graph=True)
        for i, gradient in zip(self.inputs, more, strict=True):
            if gradient is not None:
                gradients[i] = gradient if gradients[i] is None else gradients[i] + gradient
        return tuple(gradients)
