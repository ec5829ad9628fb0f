"""Whether a user's solver carries state from one step to the next."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from inspect import isfunction, unwrap
from typing import Any

import torch


class Memory:
    """The tensors that a solver holds before a step, compared with those after it.

    Args:
        solver: an object of a user's class.
        library: the package whose own classes are not searched.
    """

    def __init__(self, solver: Any, library: str) -> None:
        self.package = library
        self.before = dict(_tensors(solver))

    def found(self, solver: Any) -> str | None:
        """The name of an attribute that holds a tensor of the step and that the solver reads; None if there is none."""
        new = {name for key, (name, _) in _tensors(solver) if key not in self.before}
        return min((name for name in new if _reads(type(solver), name, self.package)), default=None)


def _tensors(solver: Any) -> Iterator[tuple[int, tuple[str, Any]]]:
    for name, value in vars(solver).items():
        inside = value.values() if isinstance(value, dict) else value
        for x in [value] if isinstance(value, torch.Tensor) else _items(inside):
            if isinstance(x, torch.Tensor):
                yield id(x), (name, x)  # with the tensor, whose id is reused once it is freed


def _items(value: Any) -> list[Any]:
    try:
        return list(value) if hasattr(value, "__len__") else []
    except TypeError:
        return []


def _reads(cls: type, name: str, library: str) -> bool:
    functions = [
        unwrap(value)
        for each in cls.__mro__
        if each.__module__.partition(".")[0] != library
        for key, value in vars(each).items()
        if isfunction(value) and key != "__init__"
    ]
    return any(
        instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and instruction.argval == name
        for function in functions
        for instruction in dis.get_instructions(function)
    )
