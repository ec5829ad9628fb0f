"""What the adapters of torch's solvers share, and the adapter of torch itself. Importing it imports no framework."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

from solvertap import hookimpl
from solvertap.adapting import Adapter, FallbackKey, Injection, Patches


class TorchArrays(Adapter):
    """An adapter whose arrays are tensors."""

    counts_are_numbers = True
    injects = True

    def inject(self, solution: Any, injection: Injection) -> Any:
        from ._injection import inject

        return inject(solution, injection)

    def trace_context(self) -> object:
        # The level of `torch.func.grad` and its like, where there is one: no value leaves it with its gradient.
        return _current_level()()

    def steps_together(self, like: Any) -> int:
        return _node().steps_together(like) if self._is_told(like) else 1

    def analytic(self, terms: Any, steps: Any) -> Any:
        return _node().analytic(terms, steps) if self._is_told(steps[0].y1) else None

    def _is_told(self, like: Any) -> bool:
        # A node of ours serves no transformation, and states of one tensor.
        return self.trace_context() is None and not _node().is_transformed() and not isinstance(like, tuple)

    def constant(self, x: Any) -> Any:
        return x.detach() if hasattr(x, "detach") else x  # times may be numbers

    def recording(self) -> Any:
        import torch

        return torch.enable_grad()

    def untouched(self, like: Any) -> Any:
        from ._random import device_of, untouched

        return untouched(device_of(like))

    def numbers(self, key: Any, index: int) -> Any:
        import torch

        if isinstance(key, FallbackKey):
            # The caller's own random numbers stay as they are, and `torch.utils.checkpoint` finds the same once more.
            key = random.Random(torch.get_rng_state().numpy().tobytes() + str(key.k).encode())
        if key is None:
            return _Own()
        if isinstance(key, torch.Generator):
            return lambda n, y: torch.rand((), dtype=torch.float64, generator=key).item()  # noqa: ARG005  # as called
        return super().numbers(key, index)

    def soon(self, values: Any) -> Any:
        from ._soon import soon

        return soon(values)

    def to_numpy(self, x: Any) -> Any:
        return x.detach().cpu().numpy()


class _Own:
    """Numbers from the state of torch's own generator, which goes on by one number when the solve is over.

    Drawn from it while the solve is at work, they would be missing in a field that draws, and change the solution.
    """

    def __init__(self) -> None:
        import torch

        self._numbers = random.Random(torch.get_rng_state().numpy().tobytes())

    def __call__(self, n: int, y: Any) -> float:  # noqa: ARG002  # as it is called
        return self._numbers.random()

    def spent(self) -> None:
        """Lets the next solve draw others."""
        import torch

        torch.rand(())


class TorchAdapter(TorchArrays):
    """Tells what `torch.utils.checkpoint` computes once more, what optimisers hold and by what a loss is scaled."""

    name = "torch"
    module = "torch.utils.checkpoint"
    distribution = "torch"
    tested = ">=2.13,<2.14"

    def attach(self, patches: Patches) -> None:
        from . import _checkpoint, _grad_scaler, _optimisers

        _checkpoint.attach(patches)
        _grad_scaler.attach(patches)
        _optimisers.attach(patches)


# Imported when they are needed first; an import statement would look for them at each step.
@cache
def _current_level() -> Callable[[], int | None]:
    from torch._C import _functorch  # pyright: ignore[reportAttributeAccessIssue]  # a compiled module

    return _functorch.maybe_current_level


@cache
def _node() -> ModuleType:
    from . import _analytic as module

    return module


@hookimpl
def solvertap_adapters() -> list[Adapter]:
    """The one adapter this plugin brings."""
    return [TorchAdapter()]
