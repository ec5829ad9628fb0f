"""The loss that a training pass begins from, and both gradients: for a `budget` under `regularize`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any
from weakref import WeakSet

import torch

from solvertap.adapting import Patches, regularizing

from . import _optimisers
from ._flat import flat
from ._grad_scaler import current_scale

_NO_GRADIENT = "The gradient of the penalty alone cannot be taken there, so that the budget finds no weight:"

_waiting: WeakSet[Any] = WeakSet()
"""The carriers of penalties that no backward pass has carried, as long as their graphs live."""


def attach(patches: Patches) -> None:
    """Places the tap: `Tensor.backward` looks `torch.autograd.backward` up when it is called."""
    patches.replace(torch.autograd, "backward", _tapped_backward)


def await_pass(carrier: Any, values: Sequence[Any]) -> None:
    """Notes the penalty of a solve, whose gradient is wanted when a backward pass begins."""
    carrier.values = values
    _waiting.add(carrier)


def _tapped_backward(backward: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(backward)
    def tapped(tensors: Any, grad_tensors: Any = None, *args: Any, **kwargs: Any) -> Any:
        regularizer = regularizing()
        if regularizer is None or not regularizer.wants_loss or grad_tensors is not None:
            backward(tensors, grad_tensors, *args, **kwargs)
            return
        watched = _Watched(regularizer, flat(tensors))
        backward(tensors, None, *args, **kwargs)
        watched.end()

    return tapped


class _Watched:
    """One backward pass of losses: what it has added to the gradients, if it has carried a penalty."""

    def __init__(self, regularizer: Any, losses: Sequence[Any]) -> None:
        self.by = regularizer
        self.losses = losses
        self.carried = regularizer.backward_passes["carried"]
        self.scales: list[Any] = []
        # The hook of a loss runs when the pass has begun, behind that of a `GradScaler`.
        self.hooks = [x.register_hook(lambda _: self.scales.append(current_scale())) for x in losses if x.requires_grad]
        self.by_penalty: list[Any] = []
        self.parameters: list[Any] = []
        if regularizer.wants_gradients:
            self._measure()
        self.before = [None if x.grad is None else x.grad.clone() for x in self.parameters]

    def end(self) -> None:
        """Tells the loss and the gradients, if the pass has carried a penalty."""
        for hook in self.hooks:
            hook.remove()
        if self.by.backward_passes["carried"] == self.carried:
            return
        _waiting.clear()
        scale = next(iter(self.scales), None)
        scale = 1.0 if scale is None else scale
        added = [_difference(x.grad, before) for x, before in zip(self.parameters, self.before, strict=True)]
        by_loss = [
            None if g is None else g / scale - (0 if p is None else p)
            for g, p in zip(added, self.by_penalty, strict=True)
        ]
        self.by.trained(sum(x.detach() for x in self.losses) / scale, by_loss, self.by_penalty)

    def _measure(self) -> None:
        """Takes the gradient of the weighted penalties by what optimisers hold."""
        waiting = [carrier for carrier in _waiting if carrier.values]
        held = _optimisers.held(self.by.optimiser)
        found = {id(x): x for carrier in waiting for x in carrier.leaves() if held(x)}
        self.parameters = list(found.values())
        if not self.parameters:
            return
        weighted = [w * x for carrier in waiting for w, x in zip(carrier.weights, carrier.values, strict=True)]
        total = torch.stack([x.double() for x in weighted]).sum()
        self.by.measuring = True
        try:
            self.by_penalty = list(torch.autograd.grad(total, self.parameters, retain_graph=True, allow_unused=True))
        except RuntimeError as error:  # such as a reentrant checkpoint in the field raises, which forbids it
            self.parameters = []
            self.by.left_out.count([f"{_NO_GRADIENT} {str(error).splitlines()[0]}"], 1)
        finally:
            self.by.measuring = False


def _difference(after: Any, before: Any) -> Any:
    return after if after is None or before is None else after - before
