"""What the adapters of torch's solvers share, and the adapter of torch itself. Importing it imports no framework.

Public for authors of torch adapters: `TorchArrays`, the base of an adapter; `TorchTrial`, the base of its trial;
`tap_backward`, `tapped_function` and `refuse_without_gradient`, for solves inside an `autograd.Function`; `Recompute`,
for `observe(checkpoint=True)`. The other modules serve the adapters of this distribution.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from solvertap import hookimpl
from solvertap.adapting import Adapter, FallbackKey, Injection, Patches, Serves

if TYPE_CHECKING:
    from .backward import refuse_without_gradient, tap_backward
    from .local_function import tapped_function
    from .recompute import Recompute
    from .trial import TorchTrial

__all__ = ["Recompute", "TorchArrays", "TorchTrial", "refuse_without_gradient", "tap_backward", "tapped_function"]

_MODULES = {
    "Recompute": ".recompute",
    "TorchTrial": ".trial",
    "refuse_without_gradient": ".backward",
    "tap_backward": ".backward",
    "tapped_function": ".local_function",
}


def __getattr__(name: str) -> Any:
    """Imports what needs torch when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name], __name__), name)


class TorchArrays(Adapter):
    """An adapter whose arrays are tensors."""

    counts_are_numbers = True
    serves = Serves(regularize=True)

    def inject(self, solution: Any, injection: Injection) -> Any:
        from ._injection import inject

        return inject(solution, injection)

    def trace_context(self) -> object:
        # The level of `torch.func`, if any. A value that leaves its level loses its gradient.
        return _current_level()()

    def steps_together(self, like: Any) -> int:
        return _node().steps_together(like) if self._can_use_node(like) else 1

    def analytic(self, terms: Any, steps: Any) -> Any:
        return _node().analytic(terms, steps) if self._can_use_node(steps[0].y1) else None

    def _can_use_node(self, like: Any) -> bool:
        # Our autograd node takes single tensors and works under no transformation.
        return self.trace_context() is None and not _node().is_transformed() and not isinstance(like, tuple)

    def mapped(self, function: Any) -> Any:
        from ._mapping import mapped

        return mapped(function)

    def batched(self, function: Any) -> Any:
        from ._mapping import batched

        return batched(function)

    def replayed(self, take: Any, again: Any, carried: Any, grid: Any) -> Any:
        from ._replay import replayed

        return replayed(take, again, carried, grid)

    def constant(self, x: Any) -> Any:
        return x.detach() if hasattr(x, "detach") else x  # times may be numbers

    def gradients(self, value: Any, parameters: Any) -> Any:
        import torch

        return torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)

    def recording(self) -> Any:
        import torch

        return torch.enable_grad()

    def untouched(self, like: Any) -> Any:
        from ._random import device_of, untouched

        return untouched(device_of(like))

    def numbers(self, key: Any, index: int) -> Any:
        import torch

        if isinstance(key, FallbackKey):
            # Seeded by torch's generator, not drawn from it: the caller's random numbers stay the same, and a
            # recomputation by `torch.utils.checkpoint` gets the same key.
            key = random.Random(torch.get_rng_state().numpy().tobytes() + str(key.k).encode())
        if key is None:
            return _GeneratorNumbers()
        if isinstance(key, torch.Generator):
            return lambda n, y: torch.rand((), dtype=torch.float64, generator=key).item()  # noqa: ARG005  # the caller's signature
        return super().numbers(key, index)

    def soon(self, values: Any) -> Any:
        from ._soon import soon

        return soon(values)

    def to_numpy(self, x: Any) -> Any:
        return x.detach().cpu().numpy()


class _GeneratorNumbers:
    """Random numbers seeded by the state of torch's generator, which advances by one number after the solve.

    Drawing from that generator during the solve would change the numbers of a field that draws, and so the solution.
    """

    def __init__(self) -> None:
        import torch

        self._numbers = random.Random(torch.get_rng_state().numpy().tobytes())

    def __call__(self, n: int, y: Any) -> float:  # noqa: ARG002  # the caller's signature
        return self._numbers.random()

    def spent(self) -> None:
        """Advances torch's generator, so that the next solve draws other numbers."""
        import torch

        torch.rand(())


class TorchAdapter(TorchArrays):
    """Taps `torch.utils.checkpoint`, optimisers and `GradScaler`."""

    name = "torch"
    module = "torch.utils.checkpoint"
    distribution = "torch"
    tested = ">=2.13,<2.14"
    serves = Serves(terms=False, trace=False)  # torch solves nothing

    def attach(self, patches: Patches) -> None:
        from . import _checkpoint, _grad_scaler, _loss, _optimisers

        _checkpoint.attach(patches)
        _grad_scaler.attach(patches)
        _loss.attach(patches)
        _optimisers.attach(patches)


# Cached: an import statement in the method would repeat the lookup at each step.
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
