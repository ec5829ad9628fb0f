"""Whether the steps of a grid method build on earlier ones."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from inspect import isfunction, unwrap
from typing import Any

import torch
from torchdiffeq._impl import fixed_adams, fixed_grid

from ._shape import is_torchdiffeqs


def has_memory(solver: Any) -> bool | None:
    """Whether it keeps something of its steps for the next; None where a step of it will tell."""
    if isinstance(solver, fixed_adams.AdamsBashforthMoulton):
        return True
    step = next((cls for cls in type(solver).__mro__ if "_step_func" in vars(cls)), None)
    return False if step is None or step.__module__ == fixed_grid.__name__ else None


class Memory:
    """What a solver holds before a step, to be compared with what it holds after one."""

    def __init__(self, solver: Any) -> None:
        self.before = dict(_held(solver))

    def found(self, solver: Any) -> str | None:
        """The name of an attribute in which a tensor of the step has been kept, and that the solver reads."""
        new = {name for key, (name, _) in _held(solver) if key not in self.before}
        return min((name for name in new if _reads(type(solver), name)), default=None)


def _held(solver: Any) -> Iterator[tuple[int, tuple[str, Any]]]:
    for name, value in vars(solver).items():
        inside = value.values() if isinstance(value, dict) else value
        for x in [value] if isinstance(value, torch.Tensor) else _items(inside):
            if isinstance(x, torch.Tensor):
                yield id(x), (name, x)  # the tensor as well, so that its id stays its own


def _items(value: Any) -> list[Any]:
    try:
        return list(value) if hasattr(value, "__len__") else []
    except TypeError:
        return []


def _reads(cls: type, name: str) -> bool:
    functions = [
        unwrap(value)
        for each in cls.__mro__
        if not is_torchdiffeqs(each)
        for key, value in vars(each).items()
        if isfunction(value) and key != "__init__"
    ]
    return any(
        instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and instruction.argval == name
        for function in functions
        for instruction in dis.get_instructions(function)
    )
