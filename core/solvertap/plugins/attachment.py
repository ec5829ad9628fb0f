"""Attaches adapters to the imported libraries, and detaches them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from types import MappingProxyType, ModuleType

from ..attaching.adapter import Adapter
from ..attaching.patch import Patch
from ..attaching.patches import Patches
from ..errors import PluginError, UnknownNameError
from .forking import Lock
from .registry import plugins

_lock = Lock()
_patches: dict[str, Patches] = {}
_attached: dict[str, None] = {}  # a set that keeps the order in which they were attached
_libraries: dict[str, ModuleType] = {}  # the module that each adapter found last
_misfits: dict[str, str] = {}


def attach() -> None:
    """Attaches every adapter whose library has been imported; again, if the library has been reloaded.

    If an adapter cannot be attached, its patches are undone and one warning says why. It is not tried again in this
    process.
    """
    attach_to_imported()


def attach_to_imported(ready: ModuleType | None = None) -> None:
    """Attaches as `attach` does, to one more library whose import is about to end.

    Args:
        ready: a module that has been executed. Any other that is being imported is left for later: it may itself
            import the library of another adapter, before it has what its own adapter is looking for.
    """
    for adapter in tuple(plugins().adapters.values()):  # another thread may register one
        library = sys.modules.get(adapter.module)
        if library is None or adapter.name in _misfits or _stands(adapter, library):
            continue
        if library is not ready and _is_being_imported(library):
            continue
        with _lock():
            if not _stands(adapter, library):
                _attach(adapter, library)


# A block may open inside a function that `torch.compile` traces, which must not trace this.
attach._torchdynamo_disable = True  # type: ignore[attr-defined]  # how torch marks a function, without torch


def _is_being_imported(library: ModuleType) -> bool:
    # importlib/_bootstrap.py sets it for the length of an import, post-import hooks included.
    return bool(getattr(getattr(library, "__spec__", None), "_initializing", False))


def detach(name: str | None = None) -> None:
    """Restores every patched attribute to the very object it was.

    If somebody else has patched over one of ours, both stay. The next observation attaches again.

    Args:
        name: one adapter; by default all of them.

    Raises:
        UnknownNameError: no adapter has that name.
    """
    known = plugins().adapters
    if name is not None and name not in known:
        raise UnknownNameError.of("adapter", name, sorted(known))
    with _lock():
        # The last one first: of two that replace the same attribute, it is on top.
        for each in [name] if name is not None else [*reversed(_attached), *_patches]:
            if each in _attached or patches_of(each):  # the latter after an interrupted `detach`
                _attached.pop(each, None)
                _patches[each].undo()


def attached() -> frozenset[str]:
    """The names of the adapters that are attached."""
    return frozenset(_attached)


def misfits() -> Mapping[str, str]:
    """The adapters that do not fit their library, each with a sentence that says why."""
    return MappingProxyType(_misfits)


def patches_of(name: str) -> tuple[Patch, ...]:
    """The patches of an adapter that are not restored; none if it is not attached."""
    return _patches[name].placed if name in _patches else ()


def _stands(adapter: Adapter, library: ModuleType) -> bool:
    known = adapter.name in _attached and _libraries[adapter.name] is library
    return known and _patches[adapter.name].stand()


def _attach(adapter: Adapter, library: ModuleType) -> None:
    if adapter.is_tested() is False:
        _warn(
            f"{adapter.distribution} {adapter.version()} is outside the versions the adapter {adapter.name!r} "
            f"was tested with ({adapter.tested}); `solvertap doctor` checks whether it fits."
        )
    patches = _patches.setdefault(adapter.name, Patches())
    if _libraries.setdefault(adapter.name, library) is not library:
        _libraries[adapter.name] = library
        _forget_submodules_of(adapter)
    try:
        adapter.attach(patches)
    except (PluginError, AttributeError, ImportError, TypeError, ValueError) as error:
        patches.undo()
        _attached.pop(adapter.name, None)
        _misfits[adapter.name] = (
            f"The adapter {adapter.name!r} does not fit {adapter.distribution or adapter.module} "
            f"{adapter.version() or ''}: {error} Its solves are not observed."
        )
        _warn(_misfits[adapter.name])
    except BaseException:  # an interrupt: whole or not at all
        _attached.pop(adapter.name, None)
        patches.undo()
        raise
    else:
        _attached.pop(adapter.name, None)  # its new patches are on top
        _attached[adapter.name] = None


def _forget_submodules_of(adapter: Adapter) -> None:
    # The library was imported again, and the adapter's submodules hold objects of the old one.
    for name in list(sys.modules):
        if name.startswith(f"{type(adapter).__module__}."):
            del sys.modules[name]


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=5)
