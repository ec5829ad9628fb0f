"""Attributes that are others while something is at work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def exchanged(owner: Any, **others: Any) -> Iterator[None]:
    """Puts these in the place of an object's attributes until the block ends.

    A solver that kept them would hold, by its field, the solve; and by a method of its own, bound, itself.
    """
    attributes = vars(owner)
    own = {name: attributes[name] for name in others if name in attributes}
    attributes.update(others)
    try:
        yield
    finally:
        for name in others:
            attributes.pop(name, None)
        attributes.update(own)
