"""The problem on which `solvertap doctor` checks whether an adapter fits the installed framework."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from ..steps.arrays import Array

Function = TypeVar("Function", bound=Callable[..., Any])


class Trial(ABC):
    """A small differential equation, solved by the adapter's framework in float64 with an adaptive method.

    Attributes:
        parameters: a vector that the field depends on, an array of the framework.
        y0: the initial state, an array.
        t0, t1: the interval of time.
        rtol, atol: the tolerances. The first attempt should be rejected. Give the first step, because some
            frameworks differentiate one that they choose themselves.
    """

    parameters: Array
    y0: Array
    t0: float
    t1: float
    rtol: float
    atol: float

    @abstractmethod
    def solve(self, parameters: Array, y0: Array, t0: Any, t1: Any, *, adaptive: bool) -> Array:
        """The state at t1, by the solver's own steps if `adaptive`, else by one step, whatever its error."""

    @abstractmethod
    def differentiate(self, function: Callable[[Array], tuple[Array, Any]]) -> tuple[Array, Any]:
        """The gradient of the first result of `function(parameters)` by the framework itself, and the second result."""

    def compiled(self, function: Function) -> Function:
        """The function, compiled where that pays for many calls."""
        return function

    def environment(self) -> AbstractContextManager[Any]:
        """A block in which float64, and the device, are switched on."""
        return nullcontext()
