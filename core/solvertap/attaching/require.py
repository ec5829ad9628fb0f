"""Asking a library for what an adapter relies on, before anything of it is touched."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable
from typing import Any

from ..errors import PluginError


def require(owner: Any, *names: str) -> None:
    """Sees that a module or a class has these attributes; for a class, those of its instances count too.

    Raises:
        PluginError: some are missing; the message names them.
    """
    missing = [name for name in names if not hasattr(owner, name) and not _is_of_instances(owner, name)]
    if missing:
        raise PluginError(f"`{owner.__name__}` has no {', '.join(map(repr, missing))}.")


def require_parameters(function: Callable[..., Any], *names: str) -> None:
    """Sees that a function takes parameters of these names; one that takes whatever comes, takes them.

    Raises:
        PluginError: it does not take some of them; the message names them.
    """
    taken = inspect.signature(function).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in taken.values()):
        return
    missing = [name for name in names if name not in taken]
    if missing:
        raise PluginError(f"`{function.__qualname__}` takes no {', '.join(map(repr, missing))}.")


def _is_of_instances(owner: Any, name: str) -> bool:
    """Whether a method of a class sets the attribute, or the class annotates it, as a dataclass does its fields."""
    if not isinstance(owner, type):
        return False
    # What somebody has put around a method, we too, sets nothing itself.
    members = [
        inspect.unwrap(member) for cls in owner.__mro__ for member in vars(cls).values() if inspect.isfunction(member)
    ]
    return any(name in inspect.get_annotations(cls) for cls in owner.__mro__) or any(
        instruction.opname == "STORE_ATTR" and instruction.argval == name
        for member in members
        if inspect.isfunction(member) and name in member.__code__.co_names
        for instruction in dis.get_instructions(member)
    )
