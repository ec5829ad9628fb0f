"""Which stepping methods of torchdiffeq a class overrides, and whether its steps can still be seen."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import isfunction, unwrap
from types import CodeType, FunctionType
from typing import Any
from weakref import WeakKeyDictionary

from torchdiffeq._impl import rk_common, solvers

_STEP = "_runge_kutta_step"  # rk_common.py: every step of an adaptive method goes through it
_REACHES = {
    # rk_common.py, solvers.py: each method calls the next, down to the step function. A user's method that mentions
    # none of these names, nor its own in the base class, takes its steps in another way.
    "integrate": {"integrate", "_advance", "_adaptive_step", _STEP, "_step_func"},
    "integrate_until_event": {"integrate_until_event", "_advance_until_event", "_adaptive_step", _STEP, "_step_func"},
    "_advance": {"_advance", "_adaptive_step", _STEP},
    "_advance_until_event": {"_advance_until_event", "_adaptive_step", _STEP},
    "_adaptive_step": {"_adaptive_step", _STEP},
}


@dataclass(frozen=True)
class Shape:
    """How a class of solvers takes its steps.

    Attributes:
        plain: as torchdiffeq itself does.
        seen: through a function that we tap. False is certain; True may prove wrong when a step is taken.
    """

    plain: bool
    seen: bool

    @classmethod
    def of(cls, solver: type) -> Shape:
        """The shape of a class."""
        shape = _shapes.get(solver)
        if shape is None:
            shape = _shapes[solver] = cls._of(solver)
        return shape

    @classmethod
    def _of(cls, solver: type) -> Shape:
        # By the module of a function: users may put their own functions on torchdiffeq's classes.
        functions = {
            name: value
            for each in reversed(solver.__mro__)
            for name, value in vars(each).items()
            if isfunction(value) and not _is_of_torchdiffeq(unwrap(value).__module__)
        }
        steps = _REACHES.keys() & functions.keys()
        helpers = {name for key in functions.keys() - steps for name in mentioned_names(functions[key])}
        seen = issubclass(solver, rk_common.RKAdaptiveStepsizeODESolver | solvers.FixedGridODESolver) and all(
            _REACHES[name] & (helpers | mentioned_names(functions[name])) for name in steps
        )
        return cls(plain=not steps and "_interp_fit" not in functions, seen=seen)


PLAIN = Shape(plain=True, seen=True)

_shapes: WeakKeyDictionary[type, Shape] = WeakKeyDictionary()


def is_builtin(cls: type) -> bool:
    """Whether a class is torchdiffeq's own."""
    return _is_of_torchdiffeq(cls.__module__)


def _is_of_torchdiffeq(module: str | None) -> bool:
    return (module or "").partition(".")[0] == "torchdiffeq"


def mentioned_names(function: Any) -> set[str]:
    """The names in a function and in functions of its module that it calls; a step function counts as `_STEP`."""
    names = set()
    function = unwrap(function)
    for name in _names(function.__code__):
        value = function.__globals__.get(name)
        if is_step(value):
            names.add(_STEP)
        elif isinstance(value, FunctionType) and value.__globals__ is function.__globals__:
            names |= {_STEP if is_step(value.__globals__.get(x)) else x for x in _names(unwrap(value).__code__)}
        else:
            names.add(name)
    return names


def is_step(value: Any) -> bool:
    """Whether this is torchdiffeq's step function, tapped or not, under any name."""
    return isinstance(value, FunctionType) and is_original_step(unwrap(value))


def is_original_step(value: Any) -> bool:
    """Whether this is torchdiffeq's step function, untapped."""
    return isinstance(value, FunctionType) and value.__globals__ is vars(rk_common) and value.__name__ == _STEP


def imported_steps(solver: type) -> Iterator[tuple[Any, str]]:
    """Modules of a class's functions that import the step function by name, with that name."""
    own = [each for each in solver.__mro__ if not is_builtin(each) and each is not object]
    for function in (unwrap(x) for each in own for x in vars(each).values() if isfunction(x)):
        module = sys.modules.get(function.__module__)
        if module is not None and vars(module) is function.__globals__:
            yield from ((module, name) for name, value in list(vars(module).items()) if is_original_step(value))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
