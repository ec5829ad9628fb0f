"""Attributes replaced for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def exchanged(owner: Any, **others: Any) -> Iterator[None]:
    """Replaces attributes of an object until the block ends.

    Left in place, they would make the solver hold the solve, and through a bound method itself.
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
