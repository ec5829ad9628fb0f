"""Checks, before anything is patched, that a library has what an adapter relies on."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable
from typing import Any

from ..errors import PluginError


def require(owner: Any, *names: str) -> None:
    """Checks that a module or a class has these attributes; for a class, those of its instances count too.

    Raises:
        PluginError: some are missing; the message names them.
    """
    missing = [name for name in names if not hasattr(owner, name) and not _instances_have(owner, name)]
    if missing:
        raise PluginError(f"`{owner.__name__}` has no {', '.join(map(repr, missing))}.")


def require_parameters(function: Callable[..., Any], *names: str) -> None:
    """Checks that a function takes parameters of these names, by name or by `**`.

    Raises:
        PluginError: it does not take some of them; the message names them.
    """
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    missing = [name for name in names if name not in parameters]
    if missing:
        raise PluginError(f"`{function.__qualname__}` takes no {', '.join(map(repr, missing))}.")


def _instances_have(owner: Any, name: str) -> bool:
    """Whether a method of the class sets the attribute, or the class annotates it like a field of a dataclass."""
    if not isinstance(owner, type):
        return False
    # Unwrapped, since a wrapper, ours or another, sets no attribute itself.
    members = [
        inspect.unwrap(member) for cls in owner.__mro__ for member in vars(cls).values() if inspect.isfunction(member)
    ]
    return any(name in inspect.get_annotations(cls) for cls in owner.__mro__) or any(
        instruction.opname == "STORE_ATTR" and instruction.argval == name
        for member in members
        if inspect.isfunction(member) and name in member.__code__.co_names
        for instruction in dis.get_instructions(member)
    )
