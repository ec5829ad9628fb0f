"""The layers of a field that are in training mode and should not be while a solver evaluates it."""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any

from torch.nn import Module, RReLU
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

_RANDOM = (_DropoutNd, RReLU, _NormBase)
_LOOKED_AT = 100  # objects: a function may lead far


def random_layers(field: Any) -> tuple[str, ...]:
    """The dropout and batch normalization of a field that are in training mode, by kind.

    A solver takes the field for a function. Dropout draws anew in each evaluation, and batch normalization moves its
    running statistics in each.

    Args:
        field: a module, or a function that holds modules: its object, what it has closed over, and the globals that
            it names.
    """
    found: dict[str, None] = {}
    waiting, known = [field], set[int]()
    while waiting and len(known) < _LOOKED_AT:
        each = waiting.pop()
        if id(each) in known:
            continue
        known.add(id(each))
        if isinstance(each, Module):
            layers = [layer for layer in each.modules() if layer.training and isinstance(layer, _RANDOM)]
            found |= dict.fromkeys(type(layer).__name__ for layer in layers)
            # The library's own modules around a function of the user's.
            waiting += [held for held in vars(each).values() if isinstance(held, FunctionType | MethodType)]
        waiting += [held for held in _held(each) if isinstance(held, Module | FunctionType | MethodType)]
    return tuple(found)


def _held(function: Any) -> Iterator[Any]:
    """What a function or a method refers to."""
    yield getattr(function, "__self__", None)
    yield getattr(function, "__func__", None)
    for cell in getattr(function, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
    code = getattr(function, "__code__", None)
    if code is not None:
        yield from (function.__globals__[name] for name in code.co_names if name in function.__globals__)
