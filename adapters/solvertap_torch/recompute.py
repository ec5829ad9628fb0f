"""Steps that are taken once more in the backward pass, instead of being kept.

What `torch.utils.checkpoint` does, for many small functions: it makes and checks several objects for each tensor that
an operation keeps, which on the steps of a solve costs as much as the solve. Here a tensor costs one number, and of all
steps of a solve only the one that is taken, or that the backward pass is at, has its tensors at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks

from solvertap.adapting import Counts, Solve
from solvertap.errors import CheckpointError

Function = Callable[..., tuple[Any, ...]]


class Recompute:
    """The steps of one solve that are taken once more, under the autocast in which it began.

    Attributes:
        counts: `Solve.recomputed`.
        device: of the state.
        autocasts: make the contexts of the forward pass anew.
        calls: how many there were.
        found: the number of the call that was taken once more last, and its tensors that nobody has asked for yet. Each
            call holds this object; that one held a call would close a circle.
    """

    @classmethod
    def of(cls, solve: Solve, y0: Any) -> Recompute | None:
        """Those of a solve that asks for them; without gradients nothing is kept anyway."""
        return cls(solve.recomputed, y0.device) if solve.checkpoint and torch.is_grad_enabled() else None

    def __init__(self, counts: Counts, device: torch.device) -> None:
        self.counts = counts
        self.device = device
        self.autocasts = [_autocast(kind) for kind in dict.fromkeys(("cpu", device.type))]
        self.calls = 0
        self.found: tuple[int, dict[int, Any]] = 0, {}

    def random(self) -> list[Any]:
        """The states of the generators, of the processor's and the device's."""
        states = [torch.get_rng_state()]
        if self.device.type != "cpu":
            states.append(torch.get_device_module(self.device).get_rng_state(self.device))
        return states

    def draw_again(self, stack: ExitStack, random: list[Any]) -> None:
        """Puts the generators into these states until the stack unwinds."""
        mine = [] if self.device.type == "cpu" else [self.device]
        stack.enter_context(torch.random.fork_rng(mine, device_type=None if not mine else self.device.type))
        torch.set_rng_state(random[0])
        if mine:
            torch.get_device_module(self.device).set_rng_state(random[1], self.device)

    def call(self, function: Function, again: Function, *inputs: Any) -> tuple[Any, ...]:
        """What a function gives of tensors; of what torch keeps for its backward pass, those alone are kept.

        Args:
            function: what is called now.
            again: the same operations, one by one, called in the backward pass. The graph keeps it, so it must hold
                nothing that holds the graph: nobody could free the two.
            inputs: the tensors.

        Raises:
            CheckpointError: in the backward pass, where an input was changed in place, or `again` does something else.
        """
        call = _Call(self, again, inputs)
        try:
            with saved_tensors_hooks(call.pack, call.unpack):
                return function(*inputs)
        finally:
            call.end()


class _Call:
    """One call: how many tensors torch wanted to keep of it, and what it takes to find them again."""

    def __init__(self, steps: Recompute, again: Function, inputs: tuple[Any, ...]) -> None:
        self.steps = steps
        self.number = steps.calls = steps.calls + 1
        self.again = again
        # Detached: the graph holds them.
        self.inputs = [(x.detach(), x.requires_grad, x._version) for x in inputs]
        self.random: list[Any] | None = steps.random()
        self.kept = 0
        # A function may itself go backwards through what it has done so far, as a field that is a gradient does.
        self.at_hand: dict[int, tuple[Any, int]] | None = {}

    def end(self) -> None:
        """The function has returned."""
        self.at_hand = None
        if all(map(torch.equal, self.random or [], self.steps.random())):
            self.random = None  # it draws nothing

    def pack(self, x: Any) -> int:
        """What torch keeps in the place of a tensor."""
        if self.at_hand is not None:
            self.at_hand[self.kept] = _without_graph(x), x._version
        self.kept += 1
        return self.kept - 1

    def unpack(self, place: int) -> Any:
        """The tensor. Later on it is given out once, and found again for whoever asks once more."""
        if self.at_hand is not None:
            x, version = self.at_hand[place]
            if x._version != version:  # torch does not look, where there are hooks
                raise CheckpointError(
                    f"A tensor of shape {tuple(x.shape)} was changed in place before the field went backwards through "
                    "what it was needed for; change a copy of it."
                )
            return x
        number, found = self.steps.found
        if number != self.number or place not in found:
            del found
            self.steps.found = 0, {}  # what no derivative has asked for
            found = self._find()
            self.steps.found = self.number, found
        return found.pop(place)

    def _find(self) -> dict[int, Any]:
        found: dict[int, Any] = {}

        def find(x: Any) -> Any:
            found[len(found)] = kept = _without_graph(x)
            return kept

        with ExitStack() as stack:
            if self.random is not None:
                self.steps.draw_again(stack, self.random)
            for autocast in self.steps.autocasts:
                stack.enter_context(autocast())
            stack.enter_context(torch.enable_grad())
            stack.enter_context(saved_tensors_hooks(find, _same))
            self.again(*(self._fresh(*x) for x in self.inputs))
        if len(found) != self.kept:
            raise CheckpointError(
                f"A step that was taken once more keeps {len(found)} tensors, and kept {self.kept} at first; under "
                "`observe(checkpoint=True)` a field must do the same whenever it is called with the same numbers."
            )
        return found

    @staticmethod
    def _fresh(x: Any, requires_grad: bool, version: int) -> Any:
        if x._version != version:
            raise CheckpointError(
                f"A state of shape {tuple(x.shape)} was changed in place after its solve, and is needed to take a step "
                "of `observe(checkpoint=True)` once more; change a copy of it."
            )
        return x.detach().requires_grad_(requires_grad)


def _autocast(kind: str) -> Callable[[], Any]:
    return partial(
        torch.autocast,
        kind,
        dtype=torch.get_autocast_dtype(kind),
        enabled=torch.is_autocast_enabled(kind),
        cache_enabled=torch.is_autocast_cache_enabled(),
    )


def _without_graph(x: Any) -> Any:
    return x.detach() if x.requires_grad else x


def _same(x: Any) -> Any:
    return x
