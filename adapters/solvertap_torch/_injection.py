"""Injection in torch: the gradient of a penalty enters through the solution."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook

from solvertap.adapting import Injection, regularizing

from ._loss import await_pass
from ._passed import pass_on
from ._training import Carrier
from .backward import around, defer, differentiates


def inject(solution: Any, injection: Injection) -> Any:
    """The solution behind an identity whose backward pass adds the gradient of the penalty."""
    _listen()
    function = around()
    if function is not None and function.backward:
        injection = replace(injection, phase="adjoint")
    injection.record(differentiates(function), injection.stats, [value.detach() for value in injection.values])
    pairs = [(w, x) for w, x in zip(injection.weights(), injection.values, strict=True) if x.requires_grad]
    weights, values = [weight for weight, _ in pairs], [value for _, value in pairs]
    if not pairs:
        return solution
    carrier = Carrier(injection, weights, values)
    if injection.by.wants_loss:
        await_pass(carrier, values)
    if defer(carrier, values):  # inside an adjoint, where a solution has no graph
        return solution
    return pass_on(solution, carrier, values)


_listening = False


def _listen() -> None:
    global _listening
    if not _listening:
        _listening = True
        register_optimizer_step_post_hook(_stepped)


def _stepped(optimiser: Any, *_: Any) -> None:
    regularizer = regularizing()
    if regularizer is not None:
        regularizer.optimiser_stepped(optimiser)
