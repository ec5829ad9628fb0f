"""One replaced attribute, class or code of somebody else's."""

from __future__ import annotations

from dataclasses import dataclass
from types import CodeType
from typing import Any

from ..errors import PluginError

INHERITED = object()
"""In place of an original that the owner only inherits."""


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
        if self.original is INHERITED:
            return vars(self.owner).get(self.name, INHERITED)
        return read_own(self.owner, self.name) if self.target is None else type(self.target)

    def write(self, value: Any) -> None:
        """Sets the value."""
        if value is INHERITED:
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
            return read_own(self.owner, self.name) is not self.target
        found = self.read()
        return found is not self.replacement and _source(found) == _source(self.original)


class CodePatch(Patch):
    """The replaced code of a function, the target; the owner and the name say where it was found."""

    __slots__ = ()

    def read(self) -> Any:
        return self.target.__code__

    def write(self, value: Any) -> None:
        self.target.__code__ = value

    def is_lost(self) -> bool:
        # Another function of the same source is the library's own after a reload; any other is somebody's wrapper.
        found = vars(self.owner).get(self.name)
        return _source(found) == _source(self.original)


def read_own(owner: Any, name: str) -> Any:
    """The owner's own attribute.

    Raises:
        PluginError: it has none of that name.
    """
    try:
        return vars(owner)[name]
    except KeyError:
        label = getattr(owner, "__name__", None) or repr(owner)
        raise PluginError(f"`{label}` has no attribute {name!r} of its own.") from None


def _source(value: Any) -> object:
    """Where a function or a code was defined: the same for a reloaded function, another one for a wrapper."""
    code = value if isinstance(value, CodeType) else getattr(getattr(value, "__func__", value), "__code__", None)
    return value if code is None else (code.co_filename, code.co_qualname)
