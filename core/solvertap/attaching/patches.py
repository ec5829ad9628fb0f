"""The only place that replaces and restores attributes of other people's code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import PluginError

_INHERITED = object()  # in place of an original that the owner only inherits


@dataclass(frozen=True, slots=True)
class Patch:
    """A replaced attribute of an owner; with a `target`, the replaced class of the object in that attribute."""

    owner: Any
    name: str
    target: Any
    original: Any
    replacement: Any

    def read(self) -> Any:
        """The present value."""
        if self.original is _INHERITED:
            return vars(self.owner).get(self.name, _INHERITED)
        return _read(self.owner, self.name) if self.target is None else type(self.target)

    def write(self, value: Any) -> None:
        """Sets the value."""
        if value is _INHERITED:
            delattr(self.owner, self.name)
        elif self.target is None:
            setattr(self.owner, self.name, value)
        else:
            # Bypasses the `__setattr__` of a frozen instance; its fields stay the same.
            object.__setattr__(self.target, "__class__", value)

    @property
    def expected(self) -> tuple[Any, str, Any]:
        """The owner's attributes, the name, and the value found there while the patch is in place."""
        return vars(self.owner), self.name, self.replacement if self.target is None else self.target

    @property
    def label(self) -> str:
        """The owner's and the attribute's name."""
        return f"{getattr(self.owner, '__name__', self.owner)}.{self.name}"

    def is_restored(self) -> bool:
        """Whether the original object is back."""
        return self.read() is self.original

    def is_on_top(self) -> bool:
        """Whether our replacement is the present value."""
        return self.read() is self.replacement

    def is_lost(self) -> bool:
        """Whether the library's own object is back: somebody restored it, or a reload made it again."""
        if self.target is not None:
            return _read(self.owner, self.name) is not self.target
        found = self.read()
        return found is not self.replacement and _source(found) == _source(self.original)


class Patches:
    """The attributes that one adapter replaces. `undo` restores them in reverse order, each to the very object it was.

    If somebody else has patched over one of ours, ours stays: removing it would remove theirs. Underneath, it does
    nothing unless an observation is open, and `replace` adds no second one.

    Attributes:
        undone: how often `undo` was called. A tap that finds it changed has missed steps of its solve.
    """

    def __init__(self) -> None:
        self.undone = 0
        self._patches: list[Patch] = []
        self._expected: list[tuple[Any, str, Any]] = []  # `Patch.expected` of each

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replaces `owner`'s own attribute `name` by `make(original)`, unless that is done already.

        Args:
            owner: a module or a class.
            name: an attribute that the owner itself has, not an inherited one.
            make: returns the replacement. It gets a static method as the `staticmethod` object.

        Raises:
            PluginError: the owner has no such attribute: the adapter does not know this version.
        """
        self._place(owner, name, None, make)

    def replace_class(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Changes the class of the object `owner.name` to `make(original class)`, unless that is done already.

        For an object that other modules import by name: all of them then have the patched one.

        Raises:
            PluginError: the owner has no such attribute.
        """
        self._place(owner, name, _read(owner, name), make)

    def shadow(self, owner: type, name: str, make: Callable[[Any], Any]) -> None:
        """Sets `make(inherited)` on a class that only inherits the attribute, unless that is done already.

        Args:
            owner: the class.
            name: the attribute.
            make: returns the replacement of the inherited value.

        Raises:
            PluginError: the class inherits no such attribute.
        """
        if name not in vars(owner) and not hasattr(owner, name):
            raise PluginError(f"`{owner.__name__}` inherits no attribute {name!r}.")
        self._place(owner, name, None, make, _INHERITED)

    @property
    def placed(self) -> tuple[Patch, ...]:
        """The patches, in the order in which they were placed."""
        return tuple(self._patches)

    def stand(self) -> bool:
        """Whether every patch is in place, possibly under somebody else's."""
        for attributes, name, expected in self._expected:  # quick, since every block does it
            if attributes.get(name) is not expected:
                break
        else:
            return True
        newest = {(id(patch.owner), patch.name): patch for patch in self._patches}
        return not any(patch.is_lost() for patch in newest.values())

    def undo(self) -> None:
        """Restores every attribute that still holds our replacement."""
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
        # Recorded first: after an interrupt, `stand` must be false and `undo` must know what to restore.
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
    """Where a function was defined: the same place for a reloaded function, another one for a wrapper."""
    code = getattr(getattr(value, "__func__", value), "__code__", None)
    return value if code is None else (code.co_filename, code.co_qualname)
