"""Blocks in which the scope is another one, and which give back the one they found wherever an interrupt strikes.

CPython delivers an interrupt (`KeyboardInterrupt`) when a call has returned, and when a function of Python's has been
entered, before its first line. So it may come when `ContextVar.set` has been called and the `with` block has not begun,
and when `__exit__` has been called and has done nothing yet. The first is undone in `__enter__`. Against the second a
`with` block has no means: a block around it repairs what it left. `call` has no such place, for the last thing it does
is one call of a function of C's.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import Token
from copy import copy
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar

from .request import Phase
from .scope import UNSEEN, Observer, Scope, current, scope

P = ParamSpec("P")
R = TypeVar("R")


class Within(ABC):
    """A block in which the scope is another one, or, with `call`, one function that is called so."""

    _token: Token[Scope]

    @abstractmethod
    def inside(self, found: Scope) -> Scope:
        """The scope inside, where another one was found."""

    def __enter__(self) -> None:
        found = current()
        try:
            self._token = scope.set(self.inside(found))
        except BaseException:
            scope.set(found)
            raise

    def __exit__(self, *_: object) -> None:
        scope.reset(self._token)

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What a function returns, called inside."""
        found = current()
        try:
            scope.set(self.inside(found))
            result = function(*args, **kwargs)
        finally:
            scope.set(found)
        return result


class unobserved(Within):
    """A block whose solves are not observed, by `regularize` either.

    Adapters open it while a field is evaluated: a solve that a field makes is part of the field. To observe such
    a solve, open an observation inside the field.
    """

    def inside(self, found: Scope) -> Scope:  # noqa: ARG002  # whatever it is
        return UNSEEN


class Current(Within):
    """A block in which the solve of a call is found by the name of its adapter.

    A field that is evaluated `unobserved` does not find it: what the field solves is another call.
    """

    def __init__(self, adapter: str, solve: Any) -> None:
        self._solve = (adapter, solve)

    def inside(self, found: Scope) -> Scope:
        return found._replace(running=(self._solve, *found.running))


class Entered(Within):
    """The block of a later phase for these observers, and for those that observe where it is entered."""

    def __init__(self, phase: Phase, observers: tuple[Observer, ...]) -> None:
        self._phase = phase
        # Weakly: a graph holds this block, an observation holds its penalty's graph, and nothing could free the circle.
        self._observers = [weakref.ref(observer) for observer in observers]

    def inside(self, found: Scope) -> Scope:
        alive = [observer for reference in self._observers if (observer := reference()) is not None]
        return Scope(tuple(dict.fromkeys((*alive, *found.observers))), replace(self._phase))

    def again(self) -> Entered:
        """The block for one more time; several may be open at once."""
        return copy(self)
