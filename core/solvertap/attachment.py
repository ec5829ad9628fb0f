"""Attaching adapters to the frameworks in use, and giving everything back."""

from __future__ import annotations

import sys
import threading
import warnings

from .adapter import Adapter
from .errors import PluginError, UnknownNameError
from .patching import Patches
from .plugins import plugins

_lock = threading.RLock()
_patches: dict[str, Patches] = {}
_attached: set[str] = set()
_refused: set[str] = set()


def attach() -> None:
    """Attaches every adapter whose library has been imported and which is not attached yet.

    An adapter that cannot be attached leaves nothing half done: it is undone, reported in one warning, and
    not tried again in this process.
    """
    for adapter in plugins().adapters.values():
        if adapter.module in sys.modules and adapter.name not in _attached and adapter.name not in _refused:
            with _lock:
                _attach(adapter)


def detach(name: str | None = None) -> None:
    """Gives back every attribute that was patched: the very object it was.

    A patch of somebody else over one of ours is left in place. The next observation attaches again.

    Args:
        name: one adapter; by default all of them.

    Raises:
        UnknownNameError: no adapter has that name.
    """
    known = plugins().adapters
    if name is not None and name not in known:
        raise UnknownNameError.of("adapter", name, sorted(known))
    with _lock:
        for each in [name] if name is not None else list(_attached):
            if each in _attached:
                _attached.discard(each)
                _patches[each].undo()


def attached() -> frozenset[str]:
    """The names of the adapters that are attached."""
    return frozenset(_attached)


def _attach(adapter: Adapter) -> None:
    if adapter.name in _attached:
        return
    if adapter.is_tested() is False:
        warnings.warn(
            f"{adapter.distribution} {adapter.version()} is outside the versions the adapter {adapter.name!r} "
            f"was tested with ({adapter.tested}).",
            RuntimeWarning,
            stacklevel=4,
        )
    patches = _patches.setdefault(adapter.name, Patches())
    try:
        adapter.attach(patches)
    except (PluginError, AttributeError, ImportError) as error:
        patches.undo()
        _refused.add(adapter.name)
        warnings.warn(
            f"The adapter {adapter.name!r} does not fit {adapter.distribution or adapter.module} "
            f"{adapter.version() or ''}: {error} Its solves are not observed.",
            RuntimeWarning,
            stacklevel=4,
        )
    else:
        _attached.add(adapter.name)
