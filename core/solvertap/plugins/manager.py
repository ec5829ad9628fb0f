"""Finds plugins: the entry points of the group `solvertap`, and what is registered by hand.

Each entry point is loaded separately: a broken one is reported, and the others work.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from inspect import isroutine
from typing import Any, TypeVar

import pluggy

from ..attaching.adapter import Adapter
from ..errors import PluginError, UnknownNameError
from ..terms.error_and_stiffness import LocalError, Stiffness
from ..terms.slopes import KineticEnergy, SlopeChange, SquaredLocalError
from ..terms.step_term import StepTerm
from ..terms.term import Term
from . import hookspecs
from .entry_points import PluginFailure, entries

GROUP = "solvertap"

Brought = TypeVar("Brought")

BUILTIN_TERMS: tuple[StepTerm, ...] = (LocalError(), Stiffness(), SquaredLocalError(), KineticEnergy(), SlopeChange())


class Plugins:
    """All plugins, what they bring, and those that failed."""

    def __init__(self) -> None:
        self.manager: pluggy.PluginManager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(hookspecs)
        self.failures: list[PluginFailure] = []
        self.adapters: dict[str, Adapter] = {}
        self.terms: dict[str, Term] = {term.name: term for term in BUILTIN_TERMS}
        self.discovering: bool = False
        self._silenced: set[tuple[str, str]] = set()
        self._brought_by: dict[str, str] = {}

    def discover(self) -> None:
        """Loads every entry point of the group, in the order of names; after an interrupt, those that are left."""
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
        """Whether it was loaded, or reported, before an interrupt."""
        return self.manager.has_plugin(name) or any(name == failure.name for failure in self.failures)

    def register(self, plugin: Any, name: str | None = None) -> None:
        """Adds one plugin and all that it brings, or nothing.

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
        """Removes an observer. The adapters and terms of a plugin stay, since they may be in use."""
        if self.manager.is_registered(observer):
            self.manager.unregister(observer)

    def problems(self) -> dict[str, Callable[[], Any]]:
        """The named problems of all plugins. Only this calls their hook, since problems may import much."""
        found: dict[str, Callable[[], Any]] = {}
        for plugin, problems in self._results_of("solvertap_problems", dict):
            for name, problem in problems.items():
                if name in found:
                    self._fail(plugin, f"brings a problem named {name!r}, which another plugin brings")
                elif not isinstance(name, str) or not callable(problem):
                    wanted = "give a name and a function that makes a problem"
                    self._fail(plugin, f"gave {problem!r} for {name!r} in `solvertap_problems`; {wanted}")
                else:
                    found[name] = problem
        return found

    def commands(self) -> list[Callable[..., None]]:
        """The commands that plugins add to the command line."""
        found: list[Callable[..., None]] = []
        for plugin, commands in self._results_of("solvertap_commands", list):
            for command in commands:
                if isroutine(command):
                    found.append(command)
                else:
                    self._fail(plugin, f"gave {command!r} in `solvertap_commands`; give a function")
        return found

    def _results_of(self, hook: str, read: Callable[[Any], Brought]) -> Iterator[tuple[str, Brought]]:
        """The name of each plugin and what its hook returns; one that raises or returns something else is reported."""
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            try:
                brought = read(implementation.function())
            except Exception as error:  # whatever somebody's module raises on import
                self._fail(implementation.plugin_name, f"raised {type(error).__name__} in `{hook}`: {error}")
            else:
                yield implementation.plugin_name, brought

    def term(self, name: str) -> Term:
        """The named term of a plugin or the built-in one.

        Raises:
            UnknownNameError: there is none; the message lists the names.
        """
        try:
            return self.terms[name]
        except KeyError:
            raise UnknownNameError.of("term", name, sorted(self.terms)) from None

    def notify(self, hook: str, **values: Any) -> None:
        """Calls one hook on every plugin. An observer's exception is reported once and stops no solve."""
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
                raise PluginError(
                    f"`solvertap_adapters` gave {adapter!r}, which is no `solvertap.adapting.Adapter`. Let its class "
                    "inherit from that."
                )
            if adapter.name in self.adapters or adapter.name in found:
                raise PluginError(f"An adapter named {adapter.name!r} is already registered.")
            found[adapter.name] = adapter
        return found

    def _terms_of(self, plugin: Any) -> dict[str, Term]:
        found: Mapping[str, Term] = _call(plugin, "solvertap_terms", {})
        for name, term in found.items():
            if not isinstance(term, Term):
                raise PluginError(
                    f"`solvertap_terms` gave {term!r} for {name!r}, which is no `solvertap.Term`; "
                    "give a term, not its class."
                )
            if name in self.terms:
                raise PluginError(f"A term named {name!r} is already registered.")
        return dict(found)

    def _fail(self, name: str, reason: str) -> None:
        failure = PluginFailure(name, self._brought_by.get(name, "this process"), reason)
        self.failures += [failure] if failure not in self.failures else []


def _call(plugin: Any, hook: str, default: Any) -> Any:
    function = getattr(plugin, hook, None)
    return default if function is None else function()
