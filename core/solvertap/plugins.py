"""Finding plugins: entry points of the group `solvertap`, and whatever is registered by hand.

Each entry point is loaded by itself, so that a broken one is reported and harms nobody.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import pluggy

from . import hookspecs
from .adapter import Adapter
from .builtin_terms import LocalError, Stiffness
from .entry_points import PluginFailure, entries
from .errors import PluginError, UnknownNameError
from .forking import Lock
from .slope_terms import KineticEnergy, SlopeChange, SquaredLocalError
from .terms import StepTerm, Term

GROUP = "solvertap"
_PATIENCE = 10  # seconds for which a fork waits; whoever imports a plugin may in turn wait for the one who forks

BUILTIN_TERMS: tuple[StepTerm, ...] = (LocalError(), Stiffness(), SquaredLocalError(), KineticEnergy(), SlopeChange())


class Plugins:
    """Every plugin there is, what they bring, and those that failed."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(hookspecs)
        self.failures: list[PluginFailure] = []
        self.adapters: dict[str, Adapter] = {}
        self.terms: dict[str, Term] = {term.name: term for term in BUILTIN_TERMS}
        self.discovering = False
        self._silenced: set[tuple[str, str]] = set()
        self._brought_by: dict[str, str] = {}

    def discover(self) -> None:
        """Loads every entry point of the group, in the order of their names; goes on where it was interrupted."""
        try:
            self.discovering = True
            self._discover()
        finally:
            self.discovering = False

    def _discover(self) -> None:
        for entry, distribution, refusal in entries(GROUP):
            if refusal:
                refused = PluginFailure(entry.name, distribution, refusal)
                self.failures += [refused] if refused not in self.failures else []
            elif not self._knows(entry.name):
                try:
                    self._brought_by[entry.name] = distribution
                    self.register(entry.load(), entry.name)
                except Exception as error:  # whatever somebody's module raises on import
                    self._fail(entry.name, f"{type(error).__name__}: {error}")

    def _knows(self, name: str) -> bool:
        """From before an interrupt."""
        return self.manager.has_plugin(name) or any(name == failure.name for failure in self.failures)

    def register(self, plugin: Any, name: str | None = None) -> None:
        """Adds one plugin and what it brings, whole or not at all.

        Raises:
            PluginError: it implements a hook that does not exist, or brings a name already taken.
        """
        if self.manager.is_registered(plugin) or (name is not None and self.manager.has_plugin(name)):
            raise PluginError(f"The plugin {name or plugin!r} is already registered.")
        try:
            self.manager.register(plugin, name)
            self.manager.check_pending()
            adapters = self._adapters_of(plugin)
            terms = self._terms_of(plugin)
            self.adapters |= adapters
            self.terms |= terms
        except BaseException as error:
            if self.manager.is_registered(plugin):
                self.manager.unregister(plugin)
            if isinstance(error, pluggy.PluginValidationError):
                raise PluginError(str(error)) from error
            raise

    def unregister(self, observer: Any) -> None:
        """Takes an observer out again. What brings adapters or terms stays: they may be in use."""
        if self.manager.is_registered(observer):
            self.manager.unregister(observer)

    def term(self, name: str) -> Term:
        """The named term of a plugin or the built-in one.

        Raises:
            UnknownNameError: there is none; the message lists those there are.
        """
        try:
            return self.terms[name]
        except KeyError:
            raise UnknownNameError.of("term", name, sorted(self.terms)) from None

    def notify(self, hook: str, **values: Any) -> None:
        """Calls one hook on every plugin. An observer's exception is reported once and stops nobody."""
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            try:
                arguments = [values[name] for name in implementation.argnames]
                implementation.function(*arguments)
            except Exception as error:  # an observer must not stop a solve
                key = (hook, implementation.plugin_name)
                if key not in self._silenced:
                    self._silenced.add(key)
                    reason = f"raised {type(error).__name__} in `{hook}`: {error}"
                    self._fail(implementation.plugin_name, reason)
                    warnings.warn(
                        f"The plugin {implementation.plugin_name!r} {reason}. The solve goes on; this is said once.",
                        RuntimeWarning,
                        stacklevel=2,
                    )

    def listens(self, hook: str) -> bool:
        """Whether any plugin implements a hook."""
        return bool(getattr(self.manager.hook, hook).get_hookimpls())

    def _adapters_of(self, plugin: Any) -> dict[str, Adapter]:
        found: dict[str, Adapter] = {}
        for adapter in _call(plugin, "solvertap_adapters", ()):
            if not isinstance(adapter, Adapter):
                raise PluginError(f"`solvertap_adapters` gave {adapter!r}, which is no `solvertap.Adapter`.")
            if adapter.name in self.adapters or adapter.name in found:
                raise PluginError(f"An adapter named {adapter.name!r} is already registered.")
            found[adapter.name] = adapter
        return found

    def _terms_of(self, plugin: Any) -> dict[str, Term]:
        found: Mapping[str, Term] = _call(plugin, "solvertap_terms", {})
        for name, term in found.items():
            if not isinstance(term, Term):
                raise PluginError(f"`solvertap_terms` gave {term!r} for {name!r}, which is no `solvertap.Term`.")
            if name in self.terms:
                raise PluginError(f"A term named {name!r} is already registered.")
        return dict(found)

    def _fail(self, name: str, reason: str) -> None:
        self.failures.append(PluginFailure(name, self._brought_by.get(name, "this process"), reason))


class _Single:
    """The plugin made of one adapter, for `register`."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter

    @hookspecs.hookimpl
    def solvertap_adapters(self) -> list[Adapter]:
        return [self.adapter]


# Reentrant: a plugin may call `register` while it is being imported.
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


def register(plugin: Any) -> None:
    """Registers an adapter, or any object or module with hook implementations, that has no entry point.

    Raises:
        PluginError: it implements a hook that does not exist, or brings a name already taken.
    """
    plugins().register(_Single(plugin) if isinstance(plugin, Adapter) else plugin)


def _wait_for_discovery() -> None:
    # A child would have half of it, and locks of Python's own on the modules that were being imported.
    if not _discovered and _lock().acquire(timeout=_PATIENCE):
        _lock().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait_for_discovery)


def _call(plugin: Any, hook: str, default: Any) -> Any:
    function = getattr(plugin, hook, None)
    return default if function is None else function()
