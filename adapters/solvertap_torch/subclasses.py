"""Finding solver classes that users write: those that exist, and later ones when a solver is constructed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any


def all_subclasses(base: type[Any]) -> Iterator[type]:
    """The subclasses of a class, at any depth."""
    cls: type[Any]
    for cls in base.__subclasses__():
        yield cls
        yield from all_subclasses(cls)


def on_construction(see: Callable[[type], None]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A wrapper for the `__init__` of a base class that first calls `see` with the type of the object."""

    def around(init: Callable[..., None]) -> Callable[..., None]:
        @wraps(init)
        def made(solver: Any, /, *args: Any, **kwargs: Any) -> None:
            see(type(solver))
            init(solver, *args, **kwargs)

        return made

    return around
