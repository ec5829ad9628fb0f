"""Who observes in this thread or task, and why the framework solves."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

from .framework import Framework
from .request import FORWARD_NAME, Phase, Request


class Observer(Protocol):
    """An observer of solves, such as an open block of `observe`.

    Attributes:
        phase: the one in which it was opened; only its solves are this observer's own.
        key: what a `LocalSample` draws its times by.
        request: what it requests of the solves of its own phase.
    """

    phase: Phase
    key: Any
    request: Request

    @property
    def opened(self) -> list[Any]:
        """The solves that began."""
        ...

    def sees(self, framework: Framework) -> bool:
        """Whether a solve that begins here and now is its to see; raises where the values would escape a trace."""
        ...


class Scope(NamedTuple):
    """Who observes in this thread or task, in which phase, and the solves of the calls that are running here.

    Attributes:
        observers: the open ones, the innermost last.
        phase: why the framework solves.
        running: names of adapters with their solves, the innermost first; see `Adapter.current`.
    """

    observers: tuple[Observer, ...]
    phase: Phase
    running: tuple[tuple[str, Any], ...] = ()


NOBODY = Scope((), Phase(FORWARD_NAME))
UNSEEN = Scope((), Phase(FORWARD_NAME))
"""As NOBODY, and hidden from `regularize` as well."""

scope: ContextVar[Scope] = ContextVar("solvertap_scope", default=NOBODY)
current: Callable[[], Scope] = scope.get
