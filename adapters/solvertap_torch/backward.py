"""A `torch.autograd.Function` that solves in both passes: forward without gradient, backward once more."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any, NamedTuple

import torch

from solvertap.adapting import Patches, Solve, later
from solvertap.errors import ContinuousAdjointError, GradientDisabledError

from ._enclosing import Enclosing, enclosing
from ._flat import flat
from ._grad_scaler import scale_inherited
from ._passed import pass_on
from ._training import Carrier


class _Function(NamedTuple):
    """A function whose forward pass is at work: its phase in the backward pass, and whether there will be one.

    `held` are penalties, and the values of their terms, to be put behind what the function gives.
    """

    phase: str
    differentiated: bool
    held: list[tuple[Carrier, list[Any]]]


_inside: ContextVar[_Function | None] = ContextVar("solvertap_torch_inside", default=None)


def around() -> Enclosing | None:
    """Somebody's own function without gradients, of which we know nothing but that it is at work."""
    return None if torch.is_grad_enabled() or _inside.get() is not None else enclosing()


def differentiates(function: Enclosing | None) -> bool:
    """Whether gradients are recorded, by torch or by a function that solves without; given `around()`."""
    if function is not None:
        return function.differentiated
    known = _inside.get()
    return torch.is_grad_enabled() if known is None else known.differentiated


def hold(carrier: Carrier, values: list[Any]) -> bool:
    """Has a penalty put behind what the adjoint at work gives; False if none is."""
    function = _inside.get()
    if function is None or function.phase != "adjoint" or torch.is_grad_enabled():
        return False
    function.held.append((carrier, values))
    return True


def tap_backward(patches: Patches, function: Any, phase: str) -> None:
    """Counts what the function solves in its backward pass as a phase of its own, and never as the forward pass."""
    patches.shadow(function, "apply", lambda inherited: _tapped_apply(inherited, phase))
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
    somebodys = around()
    if somebodys is not None and somebodys.differentiated:
        _refuse_inside(solve, somebodys, instead)
        return
    if function is None or function.phase != "adjoint":
        solve.refuse(_disabled(function), sampled=True)
        return
    if solve.fold.terms:
        solve.refuse(
            ContinuousAdjointError(
                f"A penalty was asked of `{adjoint}`, whose backward pass never sees the forward steps, so that it "
                f"would have no gradient; use `{instead}` (`adjoint=False` in a library that calls it for you, such as "
                "torchcde), or `LocalSample` around the term, which needs none of that, or `observe()` without a term "
                "for counts."
            )
        )
    if solve.extra_step is not None and not function.differentiated:
        solve.refuse(
            GradientDisabledError(
                f"A penalty was asked of `{adjoint}` where gradients are switched off, or nothing requires one; enable "
                "them, or use `observe()` without a term for counts."
            ),
            sampled=True,
        )


def _refuse_inside(solve: Solve, function: Enclosing, instead: str) -> None:
    """Refuses what would have no gradient in the forward pass of somebody's own function."""
    where = (
        f"A penalty was asked of a solve in the forward pass of `{function.name}`, an `autograd.Function`, inside "
        "which no gradient is recorded"
    )
    if solve.fold.terms:
        solve.refuse(
            ContinuousAdjointError(
                f"{where}; call `{instead}` without it, or `observe` a `LocalSample` around the term, or use "
                "`observe()` without a term for counts."
            )
        )
    # A sample has a gradient of its own, which an observation hands out past the function; nothing can be put behind
    # what the function returns.
    if solve.extra_step is not None and all(term.optional for term in solve.extra_step.terms):
        solve.refuse(
            ContinuousAdjointError(
                f"{where}, and `regularize` cannot add one to what it returns; call `{instead}` without it, or "
                "`observe` the sample and add its penalty to the loss."
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


def _tapped_apply(apply: Callable[..., Any], phase: str) -> Callable[..., Any]:
    @wraps(apply)
    def tapped(*args: Any, **kwargs: Any) -> Any:
        # Inside, gradients are off whatever they are here.
        differentiated = torch.is_grad_enabled() and any(x.requires_grad for x in flat(args))
        function = _Function(phase, differentiated, [])
        before = _inside.get()
        try:
            _inside.set(function)
            outputs = apply(*args, **kwargs)
        finally:
            _inside.set(before)
        for carrier, values in function.held:
            outputs = pass_on(outputs, carrier, values)
        return outputs

    return tapped


def _tapped_forward(forward: Callable[..., Any], phase: str) -> Callable[..., Any]:
    @wraps(forward)
    def tapped(ctx: Any, *args: Any) -> Any:
        ctx.solvertap_later = later(phase)
        return forward(ctx, *args)

    return tapped


def _tapped_backward(backward: Callable[..., Any], phase: str) -> Callable[..., Any]:
    @wraps(backward)
    def tapped(ctx: Any, *gradients: Any) -> Any:
        again = getattr(ctx, "solvertap_later", None) or later(phase)  # the forward pass may have run before us
        with scale_inherited():
            return again().call(backward, ctx, *gradients)

    return tapped
