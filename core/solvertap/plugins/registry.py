"""The registry of plugins of this process."""

from __future__ import annotations

import os
from typing import Any

from ..attaching.adapter import Adapter
from ..terms.text import ParsedTerm, read_term
from . import hookspecs
from .forking import Lock
from .manager import Plugins

_PATIENCE = 10  # seconds that a fork waits at most: the importing thread may itself wait for the forking one


class _Single:
    """A plugin of one adapter, for `register`."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter

    @hookspecs.hookimpl
    def solvertap_adapters(self) -> list[Adapter]:
        return [self.adapter]


# Reentrant: a plugin may call `register` during its import.
_lock = Lock()
_plugins = Plugins()
_discovered = False


def plugins() -> Plugins:
    """The plugins of this process, discovered on the first call."""
    global _discovered
    if not _discovered:
        with _lock():
            if not _discovered and not _plugins.discovering:
                _plugins.discover()
                _discovered = True
    return _plugins


def parse_term(text: str) -> ParsedTerm:
    """Reads weighted terms, built-in or of plugins, from a text; docs/howto/script.md has the grammar.

    Raises:
        InvalidInputError: the text breaks the grammar, or a value has no meaning where it stands.
        UnknownNameError: there is no such term, or the term has no such option.
            Both messages show the text and point at the character.
    """
    return read_term(text, plugins().term)


def register(plugin: Any) -> None:
    """Registers an adapter, or any object or module with hook implementations, that has no entry point.

    Raises:
        PluginError: it implements a hook that does not exist, or brings a name already taken.
    """
    plugins().register(_Single(plugin) if isinstance(plugin, Adapter) else plugin)


def _wait_for_discovery() -> None:
    # A child forked meanwhile would have half of the plugins, and Python's own locks on the modules being imported.
    if not _discovered and _lock().acquire(timeout=_PATIENCE):
        _lock().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait_for_discovery)
