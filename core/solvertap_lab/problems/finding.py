"""Finding a problem by its name among those that plugins bring."""

from __future__ import annotations

from collections.abc import Collection

from solvertap.errors import PluginError, UnknownNameError
from solvertap.plugins.registry import plugins

from .problem import Problem

_WANTED = ("summary", "metric", "times")


def find_problem(name: str) -> Problem:
    """The problem of that name, made anew.

    Raises:
        UnknownNameError: no plugin brings it; the message says which plugins failed.
        PluginError: what the plugin brings is no `Problem`, or lacks what has no default.
    """
    known = plugins().problems()
    if name not in known:
        failures = [f"The plugin {each.name!r} failed: {each.reason.rstrip('.')}." for each in plugins().failures]
        raise UnknownNameError.of("problem", name, list(known), " ".join(failures))
    make = known[name]
    _refuse_unfinished(name, getattr(make, "__abstractmethods__", ()))
    problem = make()
    if not isinstance(problem, Problem):
        raise PluginError(
            f"The problem {name!r} of a plugin is {problem!r}; `solvertap_problems` is to give for it a function, or a "
            "class, that makes a `solvertap_lab.Problem`."
        )
    missing = [attribute for attribute in _WANTED if not hasattr(problem, attribute)]
    if problem.stochastic and type(problem).diffusion is Problem.diffusion:
        missing.append("diffusion")
    _refuse_unfinished(name, missing)
    problem.name = name
    return problem


def _refuse_unfinished(name: str, missing: Collection[str]) -> None:
    if missing:
        lacks = ", ".join(f"`{each}`" for each in sorted(missing))
        raise PluginError(f"The problem {name!r} of a plugin lacks {lacks}; write each in its class.")
