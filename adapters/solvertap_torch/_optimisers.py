"""Which tensors an optimiser holds: what a backward pass accumulates into there is a training step's."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from functools import wraps
from typing import Any

from torch.optim import Optimizer

from solvertap.adapting import Patches, require_parameters

_known: list[weakref.ref[Optimizer]] = []
_complete = False  # whether those made before the tap was placed have been looked for


def attach(patches: Patches) -> None:
    """Places the tap on what gives an optimiser its parameters; the name is that of torch 2.13, there since 1.0."""
    global _complete
    require_parameters(Optimizer.add_param_group, "param_group")
    _complete = False
    patches.replace(Optimizer, "add_param_group", _tapped_add)


def held(optimiser: Any | None = None) -> Callable[[Any], bool]:
    """Whether a tensor is held, as a function: by the given optimiser, or by any there is."""
    if optimiser is None and not _complete:
        _look_around()
    optimisers = [optimiser] if optimiser is not None else [found for ref in tuple(_known) if (found := ref())]
    places = {id(x) for each in optimisers for group in each.param_groups for x in group["params"]}
    return lambda x: id(x) in places


def _tapped_add(add_param_group: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(add_param_group)
    def tapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        _remember(self)
        return add_param_group(self, *args, **kwargs)

    return tapped


def _look_around() -> None:
    # torch keeps no list of its optimisers. By `type`: `isinstance` may run code of somebody's proxy.
    global _complete
    _complete = True
    for found in gc.get_objects():
        if issubclass(type(found), Optimizer) and hasattr(found, "param_groups"):
            _remember(found)


def _remember(optimiser: Any) -> None:
    alive = [ref for ref in _known if ref() is not None]
    if not any(ref() is optimiser for ref in alive):
        alive.append(weakref.ref(optimiser))
    _known[:] = alive
