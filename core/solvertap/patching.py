"""The only place that sets an attribute of somebody else's code, and gives it back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .errors import PluginError


@dataclass(frozen=True, slots=True)
class _Patch:
    owner: Any
    name: str
    original: Any
    replacement: Any

    def is_on_top(self) -> bool:
        return _read(self.owner, self.name) is self.replacement


class Patches:
    """The replaced attributes of one adapter: made in order, undone in reverse, each the very object it was.

    A patch that somebody else has since covered with one of theirs is left alone: taking it out would take
    theirs out. It stays underneath, where it does nothing unless an observation is open, and `replace` will
    not put a second one beside it.
    """

    def __init__(self) -> None:
        self._patches: list[_Patch] = []

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Puts `make(original)` in the place of `owner`'s own attribute `name`.

        Args:
            owner: a module, a class, or an object whose class is to be exchanged (`name="__class__"`).
            name: an attribute that the owner itself has, not one it inherits.
            make: gives the replacement. A static method arrives as the `staticmethod` object it is.

        Raises:
            PluginError: the owner has no such attribute, so that its version is not one this adapter knows.
        """
        if any(patch.owner is owner and patch.name == name for patch in self._patches):
            return
        original = _read(owner, name)
        replacement = make(original)
        _write(owner, name, replacement)
        self._patches.append(_Patch(owner, name, original, replacement))

    def undo(self) -> None:
        """Gives back every attribute that still holds our replacement."""
        for patch in reversed(self._patches):
            if patch.is_on_top():
                _write(patch.owner, patch.name, patch.original)
        self._patches = [patch for patch in self._patches if _read(patch.owner, patch.name) is not patch.original]


def _read(owner: Any, name: str) -> Any:
    if name == "__class__":
        return type(owner)
    try:
        return vars(owner)[name]
    except KeyError:
        label = getattr(owner, "__name__", None) or repr(owner)
        raise PluginError(f"`{label}` has no attribute {name!r} of its own.") from None


def _write(owner: Any, name: str, value: Any) -> None:
    if name == "__class__":
        # Past the `__setattr__` of a frozen instance: its fields are not touched.
        object.__setattr__(owner, name, value)
    else:
        setattr(owner, name, value)
