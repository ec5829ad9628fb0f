"""Solves inside a `torch.autograd.Function`: without gradient in the forward pass, and again in the backward pass."""

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
from ._refusing import disabled, postponed, refuse_inside
from ._training import Carrier


class _Function(NamedTuple):
    """A tapped function whose forward pass is running.

    Attributes:
        phase: the phase of its backward pass.
        inputs: the tensors that it was called with.
        differentiated: whether a backward pass can follow.
        deferred: penalties and the values of their terms, injected into the outputs of the function.
    """

    phase: str
    inputs: tuple[Any, ...]
    differentiated: bool
    deferred: list[tuple[Carrier, list[Any]]]


_ELSEWHERE = "`adjoint=False` in a library that calls it for you, such as torchcde"

_inside: ContextVar[_Function | None] = ContextVar("solvertap_torch_inside", default=None)


def around() -> Enclosing | None:
    """The user's `autograd.Function` that is running without gradients, if it is not a tapped one."""
    return None if torch.is_grad_enabled() or _inside.get() is not None else enclosing()


def differentiates(function: Enclosing | None) -> bool:
    """Whether gradients are recorded, by torch or by an `autograd.Function` around the solve; takes `around()`."""
    if function is not None:
        return function.differentiated
    known = _inside.get()
    return torch.is_grad_enabled() if known is None else known.differentiated


def defer(carrier: Carrier, values: list[Any]) -> bool:
    """Leaves a penalty to the outputs of the running adjoint; False if no adjoint is running."""
    function = _inside.get()
    if function is None or function.phase != "adjoint" or torch.is_grad_enabled():
        return False
    function.deferred.append((carrier, values))
    return True


def with_graph(x: Any) -> Any:
    """A tensor with its graph outside of the running adjoint, which may have detached it; itself if it has none.

    adjoint.py::_SdeintAdjointMethod.forward of torchsde detaches the initial state.
    """
    function = _inside.get()
    for each in () if function is None or x.requires_grad else function.inputs:
        if each.data_ptr() == x.data_ptr() and each.shape == x.shape and each.dtype == x.dtype:
            # The first one is the state. A parameter behind it has the same memory where the caller has detached it.
            return each if each.requires_grad else x
    return x


def tap_backward(patches: Patches, function: Any, phase: str) -> None:
    """Makes the solves in the backward pass of a function a phase of their own."""
    patches.shadow(function, "apply", lambda inherited: tapped_apply(inherited, phase))
    patches.replace(function, "forward", lambda original: staticmethod(tapped_forward(original.__func__, phase)))
    patches.replace(function, "backward", lambda original: staticmethod(tapped_backward(original.__func__, phase)))


def refuse_without_gradient(
    solve: Solve, adjoint: str, instead: str, elsewhere: str = _ELSEWHERE, *, unreplayable: str = ""
) -> None:
    """Refuses a penalty where torch records no gradient. Terms with `replay` are left to `solve.replay` if they can be.

    Args:
        solve: the solve about to start.
        adjoint, instead: the function whose backward pass solves an adjoint, and the one to use instead; or an option.
        elsewhere: how to do that where other code makes the call; "" for nothing.
        unreplayable: why the steps of the solver cannot be taken again, if so.

    Raises:
        ContinuousAdjointError, GradientDisabledError: the penalty would have no gradient.
    """
    if not solve.terms or torch.is_grad_enabled():
        return
    function = _inside.get()
    unknown = around()
    if unknown is not None and unknown.differentiated:
        refuse_inside(solve, unknown, instead, unreplayable)
        return
    if function is None or function.phase != "adjoint":
        solve.refuse(disabled(None if function is None else function.phase), sampled=True)
        return
    remedy = f"{postponed(solve, unreplayable, 'use')} `{instead}`{elsewhere and f' ({elsewhere})'}"
    if solve.fold.terms:
        solve.refuse(
            ContinuousAdjointError(
                f"A penalty was asked of `{adjoint}`, whose backward pass never sees the forward steps, so it would "
                f"have no gradient. {remedy}, or `LocalSample` around the term, which needs no forward steps. "
                "`observe()` without a term still counts."
            )
        )
    if solve.terms and not function.differentiated:
        solve.refuse(
            GradientDisabledError(
                f"A penalty was asked of `{adjoint}` where gradients are switched off, or nothing requires one. "
                "Enable them. `observe()` without a term still counts."
            ),
            sampled=True,
        )


def tapped_apply(apply: Callable[..., Any], phase: str) -> Callable[..., Any]:
    """The `apply` of a function, inside of which a solve knows that it runs without gradient, and why."""

    @wraps(apply)
    def tapped(*args: Any, **kwargs: Any) -> Any:
        # Read here: inside `apply`, gradients are always disabled.
        inputs = tuple(flat(args))
        differentiated = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
        function = _Function(phase, inputs, differentiated, [])
        before = _inside.get()
        try:
            _inside.set(function)
            outputs = apply(*args, **kwargs)
        finally:
            _inside.set(before)
        for carrier, values in function.deferred:
            outputs = pass_on(outputs, carrier, values)
        return outputs

    return tapped


def tapped_forward(forward: Callable[..., Any], phase: str) -> Callable[..., Any]:
    """The `forward` of a function, which keeps the block of its backward pass."""

    @wraps(forward)
    def tapped(ctx: Any, *args: Any) -> Any:
        ctx.solvertap_later = later(phase)
        return forward(ctx, *args)

    return tapped


def tapped_backward(backward: Callable[..., Any], phase: str) -> Callable[..., Any]:
    """The `backward` of a function, whose solves are counted under the phase."""

    @wraps(backward)
    def tapped(ctx: Any, *gradients: Any) -> Any:
        resumed = getattr(ctx, "solvertap_later", None) or later(phase)  # the forward pass may precede the tap
        with scale_inherited():
            return resumed().call(backward, ctx, *gradients)

    return tapped
