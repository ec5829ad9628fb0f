"""Refusals of a penalty in a solve whose steps carry no gradient in torch."""

from __future__ import annotations

from solvertap.adapting import Solve
from solvertap.errors import ContinuousAdjointError, GradientDisabledError

from ._enclosing import Enclosing


def postponed(solve: Solve, unreplayable: str, verb: str) -> str:
    """Postpones the terms with `replay`; returns how a refusal of the others begins its remedy, up to the verb."""
    if unreplayable:
        return f"`replay=True` does not help, as {unreplayable}; {verb}"
    solve.postpone()
    helps = f"Pass `replay=True` to take its steps once more with gradient, or {verb}"
    return helps if solve.replays else verb.capitalize()


def refuse_inside(solve: Solve, function: Enclosing, instead: str, unreplayable: str) -> None:
    """Refuses a penalty that would have no gradient in the forward pass of the user's `autograd.Function`."""
    where = (
        f"A penalty was asked of a solve in the forward pass of `{function.name}`, an `autograd.Function`, which "
        "records no gradient"
    )
    call = postponed(solve, unreplayable, "call")
    if solve.fold.terms:
        solve.refuse(
            ContinuousAdjointError(
                f"{where}. {call} `{instead}` without it, or `observe` a `LocalSample` around the term. "
                "`observe()` without a term still counts."
            )
        )
    # Steps taken after the solve have their own graph, so `observe` returns its penalty past the function. `regularize`
    # would have to change the outputs of the function, which nothing taps.
    if solve.terms and all(term.optional for term in solve.terms):
        solve.refuse(
            ContinuousAdjointError(
                f"{where}, and `regularize` cannot add a penalty to its outputs. Call `{instead}` without it, or "
                "`observe` the term and add its penalty to the loss."
            ),
            sampled=True,
        )


def disabled(phase: str | None) -> GradientDisabledError:
    """The refusal where gradients are switched off, inside a tapped function of this phase."""
    if phase == "recomputation":
        return GradientDisabledError(
            "A penalty was asked inside `torch.utils.checkpoint` with `use_reentrant=True`, which records no "
            "gradient of anything but its result. Pass `use_reentrant=False`. `observe()` without a term still "
            "counts."
        )
    return GradientDisabledError(
        "A penalty was asked where gradients are switched off (`torch.no_grad` or inference mode). Enable "
        "them. `observe()` without a term still counts."
    )
