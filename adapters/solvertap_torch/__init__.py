"""What the adapters of torch's solvers share, and the adapter of torch itself. Importing it imports no framework."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

from solvertap import Adapter, Passage, Patches, Unkeyed, hookimpl


class TorchArrays(Adapter):
    """An adapter whose arrays are tensors."""

    counts_are_numbers = True
    injects = True

    def inject(self, solution: Any, passage: Passage) -> Any:
        from ._passage import inject

        return inject(solution, passage)

    def scope(self) -> object:
        # The level of `torch.func.grad` and its like, where there is one: no value leaves it with its gradient.
        return _current_level()()

    def steps_together(self, like: Any) -> int:
        return _node().steps_together(like) if self._is_told(like) else 1

    def derived(self, terms: Any, steps: Any) -> Any:
        return _node().derived(terms, steps) if self._is_told(steps[0].y1) else None

    def _is_told(self, like: Any) -> bool:
        # A node of ours serves no transformation, and states of one tensor.
        return self.scope() is None and not _node().is_transformed() and not isinstance(like, tuple)

    def constant(self, x: Any) -> Any:
        return x.detach()

    def recording(self) -> Any:
        import torch

        return torch.enable_grad()

    def numbers(self, key: Any, index: int) -> Any:
        import torch

        if isinstance(key, Unkeyed):
            # The caller's own random numbers stay as they are, and `torch.utils.checkpoint` finds the same once more.
            key = random.Random(torch.get_rng_state().numpy().tobytes() + str(key.k).encode())
        if key is None or isinstance(key, torch.Generator):
            return lambda n, y: torch.rand((), dtype=torch.float64, generator=key).item()  # noqa: ARG005  # as called
        return super().numbers(key, index)

    def to_numpy(self, x: Any) -> Any:
        return x.detach().cpu().numpy()


class TorchAdapter(TorchArrays):
    """Tells what `torch.utils.checkpoint` computes once more, and by what a `GradScaler` scales. It opens no solve."""

    name = "torch"
    module = "torch.utils.checkpoint"
    distribution = "torch"
    tested = ">=2.13,<2.14"

    def attach(self, patches: Patches) -> None:
        from . import _checkpoint, _scale

        _checkpoint.attach(patches)
        _scale.attach(patches)


# Imported when they are needed first; an import statement would look for them at each step.
@cache
def _current_level() -> Callable[[], int | None]:
    from torch._C import _functorch  # pyright: ignore[reportAttributeAccessIssue]  # a compiled module

    return _functorch.maybe_current_level


@cache
def _node() -> ModuleType:
    from . import _derived as module

    return module


@hookimpl
def solvertap_adapters() -> list[Adapter]:
    """The one adapter this plugin brings."""
    return [TorchAdapter()]
