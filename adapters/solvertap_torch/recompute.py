"""Checkpointing of steps: the backward pass recomputes them.

`torch.utils.checkpoint` makes and checks several objects for each saved tensor, which costs as much as a step itself.
Here a saved tensor costs one number. Only the current step, in the forward or in the backward pass, holds its tensors.
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
    """Checkpoints the steps of one solve, under the autocast in which it began.

    Attributes:
        counts: `Solve.recomputed`.
        device: of the state.
        autocasts: functions that create the autocast contexts of the forward pass.
        calls: the number of calls so far.
        found: the number of the call recomputed last, and those of its tensors not yet unpacked. A number, because the
            call itself holds this object, and the two would form a cycle.
    """

    @classmethod
    def of(cls, solve: Solve, y0: Any) -> Recompute | None:
        """For a solve under `checkpoint`; else None. Without gradients there is nothing to recompute."""
        return cls(solve.recomputed, y0.device) if solve.checkpoint and torch.is_grad_enabled() else None

    def __init__(self, counts: Counts, device: torch.device) -> None:
        self.counts = counts
        self.device = device
        self.autocasts = [_autocast(kind) for kind in dict.fromkeys(("cpu", device.type))]
        self.calls = 0
        self.found: tuple[int, dict[int, Any]] = 0, {}

    def random(self) -> list[Any]:
        """The states of the generators of the CPU and of the device."""
        states = [torch.get_rng_state()]
        if self.device.type != "cpu":
            states.append(torch.get_device_module(self.device).get_rng_state(self.device))
        return states

    def draw_again(self, stack: ExitStack, random: list[Any]) -> None:
        """Sets the generators to these states until the stack unwinds."""
        mine = [] if self.device.type == "cpu" else [self.device]
        stack.enter_context(torch.random.fork_rng(mine, device_type=None if not mine else self.device.type))
        torch.set_rng_state(random[0])
        if mine:
            torch.get_device_module(self.device).set_rng_state(random[1], self.device)

    def call(self, function: Function, again: Function, *inputs: Any) -> tuple[Any, ...]:
        """Calls a function of tensors; of the tensors that torch would save, only the inputs are kept.

        Args:
            function: called now.
            again: the same operations in the same order, called in the backward pass. The graph holds it, so it must
                not hold the graph: nothing could free the two.
            inputs: the tensors.

        Raises:
            CheckpointError: in the backward pass, if an input was changed in place or `again` saves other tensors.
        """
        call = _Call(self, again, inputs)
        try:
            with saved_tensors_hooks(call.pack, call.unpack):
                return function(*inputs)
        finally:
            call.end()


class _Call:
    """One call: the number of tensors that torch saves of it, and all that it takes to recompute them."""

    def __init__(self, steps: Recompute, again: Function, inputs: tuple[Any, ...]) -> None:
        self.steps = steps
        self.number = steps.calls = steps.calls + 1
        self.again = again
        # Detached, because the graph holds this call.
        self.inputs = [(x.detach(), x.requires_grad, x._version) for x in inputs]
        self.random: list[Any] | None = steps.random()
        self.saved = 0
        # A function may itself run a backward pass, as a field that is a gradient does.
        self.live: dict[int, tuple[Any, int]] | None = {}

    def end(self) -> None:
        """The function has returned."""
        self.live = None
        if all(map(torch.equal, self.random or [], self.steps.random())):
            self.random = None  # it draws nothing

    def pack(self, x: Any) -> int:
        """The number that torch saves instead of a tensor."""
        if self.live is not None:
            self.live[self.saved] = _without_graph(x), x._version
        self.saved += 1
        return self.saved - 1

    def unpack(self, place: int) -> Any:
        """The tensor. After the call each is returned once; a second request recomputes the call again."""
        if self.live is not None:
            x, version = self.live[place]
            if x._version != version:  # torch does not check under saved-tensor hooks
                raise CheckpointError(
                    f"A tensor of shape {tuple(x.shape)} was changed in place before the backward pass, inside the "
                    "field that needs it. Change a copy of it."
                )
            return x
        number, found = self.steps.found
        if number != self.number or place not in found:
            del found
            self.steps.found = 0, {}  # free the rest of the other call
            found = self._find()
            self.steps.found = self.number, found
        return found.pop(place)

    def _find(self) -> dict[int, Any]:
        found: dict[int, Any] = {}

        def find(x: Any) -> Any:
            found[len(found)] = tensor = _without_graph(x)
            return tensor

        with ExitStack() as stack:
            if self.random is not None:
                self.steps.draw_again(stack, self.random)
            for autocast in self.steps.autocasts:
                stack.enter_context(autocast())
            stack.enter_context(torch.enable_grad())
            stack.enter_context(saved_tensors_hooks(find, _same))
            self.again(*(self._fresh(*x) for x in self.inputs))
        if len(found) != self.saved:
            raise CheckpointError(
                f"A step that was taken once more saves {len(found)} tensors, and saved {self.saved} at first. "
                "Under `observe(checkpoint=True)` and `replay=True` a field must do the same whenever it is called "
                "with the same numbers."
            )
        return found

    @staticmethod
    def _fresh(x: Any, requires_grad: bool, version: int) -> Any:
        if x._version != version:
            raise CheckpointError(
                f"A state of shape {tuple(x.shape)} was changed in place after its solve, and "
                "`observe(checkpoint=True)` or `replay=True` takes a step once more from it. Change a copy of it."
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
