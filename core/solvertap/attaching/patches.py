"""The only place that replaces and restores attributes of other people's code."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from ..errors import PluginError
from .forwarding import forwarding, same
from .patch import INHERITED, CodePatch, Patch, read_own


class Patches:
    """The attributes that one adapter replaces. `undo` restores them in reverse order, each to the very object it was.

    If somebody else has patched over one of ours, ours stays: removing it would remove theirs. Underneath, it does
    nothing unless an observation is open, and `replace` adds no second one.

    Attributes:
        undone: how often `undo` was called. A tap that finds it changed has missed steps of its solve.
    """

    def __init__(self) -> None:
        self.undone: int = 0
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
        self._place(owner, name, read_own(owner, name), make)

    def replace_code(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Has the function `owner.name` run `make(original)`, unless that is done already.

        For a function that other modules and users import by name, whenever they have: it stays the object they hold,
        with its signature and its defaults, and its code is exchanged. A function with a closure cannot be
        exchanged so, nor what is no function of Python's; it is replaced in its owner alone, as by `replace`.

        Args:
            owner: a module or a class.
            name: an attribute that the owner itself has.
            make: returns the replacement. It gets a function that does what the original did.

        Raises:
            PluginError: the owner has no such attribute.
        """
        for patch in self._patches:
            if type(patch) is CodePatch and (patch.owner, patch.name) == (owner, name) and not patch.is_lost():
                return
        function = read_own(owner, name)
        if isinstance(function, FunctionType) and not function.__closure__:
            code = forwarding(function, make(same(function)))
            self._write(CodePatch(owner, name, function, function.__code__, code))
        else:
            self.replace(owner, name, make)

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
        self._place(owner, name, None, make, INHERITED)

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
        found = getattr(owner, name) if original is INHERITED else None
        if original is None:
            found = original = read_own(owner, name) if target is None else type(target)
        self._write(Patch(owner, name, target, original, make(found)))

    def _write(self, patch: Patch) -> None:
        # Recorded first: after an interrupt, `stand` must be false and `undo` must know what to restore.
        self._expected.append(patch.expected)
        self._patches.append(patch)
        patch.write(patch.replacement)
