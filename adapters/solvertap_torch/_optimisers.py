"""The tensors that optimisers hold. A backward pass that accumulates into one of them is a training step."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from functools import wraps
from typing import Any

from torch.optim import Optimizer

from solvertap.adapting import Patches, require_parameters

_known: list[weakref.ref[Optimizer]] = []
_all_found = False  # whether the optimisers made before the tap are in `_known`


def attach(patches: Patches) -> None:
    """Places the tap on `add_param_group`, which gives an optimiser its parameters (torch 1.0 to 2.13)."""
    global _all_found
    require_parameters(Optimizer.add_param_group, "param_group")
    _all_found = False
    patches.replace(Optimizer, "add_param_group", _tapped_add)


def held(optimiser: Any | None = None) -> Callable[[Any], bool]:
    """A function that says whether a tensor is held by the given optimiser, by default by any."""
    if optimiser is None and not _all_found:
        _find_all()
    optimisers = [optimiser] if optimiser is not None else [found for ref in tuple(_known) if (found := ref())]
    places = {id(x) for each in optimisers for group in each.param_groups for x in group["params"]}
    return lambda x: id(x) in places


def _tapped_add(add_param_group: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(add_param_group)
    def tapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        _remember(self)
        return add_param_group(self, *args, **kwargs)

    return tapped


def _find_all() -> None:
    # torch has no list of its optimisers. `type`, because `isinstance` may run code of a user's proxy object.
    global _all_found
    _all_found = True
    for found in gc.get_objects():
        if issubclass(type(found), Optimizer) and hasattr(found, "param_groups"):
            _remember(found)


def _remember(optimiser: Any) -> None:
    alive = [ref for ref in _known if ref() is not None]
    if not any(ref() is optimiser for ref in alive):
        alive.append(weakref.ref(optimiser))
    _known[:] = alive
