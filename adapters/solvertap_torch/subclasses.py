"""Solver classes that somebody has written, or writes later: those there are, and those of which a solver is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any


def below(base: type[Any]) -> Iterator[type]:
    """The subclasses of a class, at any depth."""
    cls: type[Any]
    for cls in base.__subclasses__():
        yield cls
        yield from below(cls)


def seen_when_made(see: Callable[[type], None]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """What to put around the `__init__` of a class, so that `see` is called with the type of each object first."""

    def around(init: Callable[..., None]) -> Callable[..., None]:
        @wraps(init)
        def made(solver: Any, /, *args: Any, **kwargs: Any) -> None:
            see(type(solver))
            init(solver, *args, **kwargs)

        return made

    return around
