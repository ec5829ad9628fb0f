"""The only place that sets an attribute of somebody else's code, and gives it back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import PluginError

_INHERITED = object()  # in the place of an attribute that the owner does not have itself


@dataclass(frozen=True, slots=True)
class Patch:
    """An attribute of an owner, or the class of the object that the attribute is."""

    owner: Any
    name: str
    target: Any
    original: Any
    replacement: Any

    def read(self) -> Any:
        """What is there now."""
        if self.original is _INHERITED:
            return vars(self.owner).get(self.name, _INHERITED)
        return _read(self.owner, self.name) if self.target is None else type(self.target)

    def write(self, value: Any) -> None:
        """Puts something there."""
        if value is _INHERITED:
            delattr(self.owner, self.name)
        elif self.target is None:
            setattr(self.owner, self.name, value)
        else:
            # Past the `__setattr__` of a frozen instance: its fields are not touched.
            object.__setattr__(self.target, "__class__", value)

    @property
    def expected(self) -> tuple[Any, str, Any]:
        """The attributes of the owner, the name, and what is found there as long as the patch stands."""
        return vars(self.owner), self.name, self.replacement if self.target is None else self.target

    @property
    def label(self) -> str:
        """The owner's and the attribute's name."""
        return f"{getattr(self.owner, '__name__', self.owner)}.{self.name}"

    def is_restored(self) -> bool:
        """Whether the very object that was there is there."""
        return self.read() is self.original

    def is_on_top(self) -> bool:
        """Whether ours is what everybody finds."""
        return self.read() is self.replacement

    def is_lost(self) -> bool:
        """Whether the library's own is there again: given back by somebody, or made anew by a reload."""
        if self.target is not None:
            return _read(self.owner, self.name) is not self.target
        found = self.read()
        return found is not self.replacement and _source(found) == _source(self.original)


class Patches:
    """The replaced attributes of one adapter: made in order, undone in reverse, each the very object it was.

    A patch that somebody else has since covered with one of theirs is left alone: taking it out would take
    theirs out. It stays underneath, where it does nothing unless an observation is open, and `replace` will
    not put a second one beside it.

    Attributes:
        undone: how often everything was given back. A tap that finds it changed has missed steps of its solve.
    """

    def __init__(self) -> None:
        self.undone = 0
        self._patches: list[Patch] = []
        self._expected: list[tuple[Any, str, Any]] = []  # of each patch the attributes of its owner, and what is there

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Puts `make(original)` in the place of `owner`'s own attribute `name`, once.

        Args:
            owner: a module or a class.
            name: an attribute that the owner itself has, not one it inherits.
            make: gives the replacement. A static method arrives as the `staticmethod` object it is.

        Raises:
            PluginError: the owner has no such attribute, so that its version is not one this adapter knows.
        """
        self._place(owner, name, None, make)

    def replace_class(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Gives the object that is `owner`'s attribute `name` the class `make(original class)`, once.

        For an object that is imported by name everywhere: whoever holds it, holds the patched one.

        Raises:
            PluginError: the owner has no such attribute.
        """
        self._place(owner, name, _read(owner, name), make)

    def shadow(self, owner: type, name: str, make: Callable[[Any], Any]) -> None:
        """Puts `make(inherited)` before an attribute that the class inherits, once.

        Args:
            owner: the class.
            name: the attribute.
            make: gives the replacement of what the class finds now.

        Raises:
            PluginError: the class inherits no such attribute.
        """
        if name not in vars(owner) and not hasattr(owner, name):
            raise PluginError(f"`{owner.__name__}` inherits no attribute {name!r}.")
        self._place(owner, name, None, make, _INHERITED)

    @property
    def placed(self) -> tuple[Patch, ...]:
        """The patches, in the order in which they were made."""
        return tuple(self._patches)

    def stand(self) -> bool:
        """Whether every patch is where it was put, if need be under somebody else's."""
        for attributes, name, expected in self._expected:  # what every block asks for
            if attributes.get(name) is not expected:
                break
        else:
            return True
        newest = {(id(patch.owner), patch.name): patch for patch in self._patches}
        return not any(patch.is_lost() for patch in newest.values())

    def undo(self) -> None:
        """Gives back every attribute that still holds our replacement."""
        self.undone += 1
        for patch in reversed(self._patches):
            if patch.is_on_top():
                patch.write(patch.original)
        self._patches = [patch for patch in self._patches if not patch.is_restored() and not patch.is_lost()]
        self._expected = [patch.expected for patch in self._patches]

    def _place(self, owner: Any, name: str, target: Any, make: Callable[[Any], Any], original: Any = None) -> None:
        for patch in self._patches:
            if (patch.owner, patch.name, patch.target) == (owner, name, target) and not patch.is_lost():
                return
        found = getattr(owner, name) if original is _INHERITED else None
        if original is None:
            found = original = _read(owner, name) if target is None else type(target)
        patch = Patch(owner, name, target, original, make(found))
        # Before it is placed: whoever is interrupted must know what to give back, and that it does not stand yet.
        self._expected.append(patch.expected)
        self._patches.append(patch)
        patch.write(patch.replacement)


def _read(owner: Any, name: str) -> Any:
    try:
        return vars(owner)[name]
    except KeyError:
        label = getattr(owner, "__name__", None) or repr(owner)
        raise PluginError(f"`{label}` has no attribute {name!r} of its own.") from None


def _source(value: Any) -> object:
    """Where a function was written: a reload makes another one of the same source, a wrapper has its own."""
    code = getattr(getattr(value, "__func__", value), "__code__", None)
    return value if code is None else (code.co_filename, code.co_qualname)
