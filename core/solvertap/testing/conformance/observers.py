"""What is told of a solve are numbers, and what is traced does not leave its trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...attaching.trial import Trial
from ...errors import EscapedTraceError
from ...plugins.hookspecs import hookimpl
from ...plugins.registry import plugins
from ...solves.stats import Stats
from .case import Case
from .facts import Fact


def told(case: Case) -> Iterator[Fact]:
    """Observers of finished solves are told numbers, from compiled and from mapped functions too."""
    heard: list[Stats] = []

    class Listener:
        @hookimpl
        def solvertap_solve_finished(self, stats: Stats) -> None:
            heard.append(stats)

    def solve(parameters: Any) -> Any:
        with case.observe():
            return case.solve(parameters)

    listener = Listener()
    plugins().register(listener, f"conformance of {case.adapter.name}")
    try:
        ways: dict[str, Callable[[], Any]] = {"": lambda: solve(case.parameters)}
        if type(case.trial).compiled is not Trial.compiled:
            ways[", compiled"] = lambda: case.trial.compiled(solve)(case.parameters)
        if type(case.trial).mapped is not Trial.mapped:
            batch = np.stack([case.numpy(case.parameters)] * 2)
            ways[", mapped"] = lambda: case.trial.mapped(solve, case.trial.array(batch))
        for where, run in ways.items():
            heard.clear()
            run()
            case.trial.settle()
            numbers = all(np.asarray(n).dtype.kind in "iu" for stats in heard for n in stats if n is not None)
            wanted = 2 if where == ", mapped" else 1
            yield Fact(f"observers{where}", len(heard) == wanted and numbers, f"{len(heard)} solves heard of: {heard}")
    finally:
        plugins().unregister(listener)


def escaped(case: Case) -> Iterator[Fact]:
    """Values of a compiled function are refused outside of it, and a block outside sees no traced solve silently."""
    if type(case.trial).compiled is Trial.compiled or case.term is None:
        return
    seen: list[Any] = []

    def solve(parameters: Any) -> Any:
        with case.observe(case.local_error) as inside:
            y1 = case.solve(parameters)
        seen.append(inside)
        return y1

    case.trial.compiled(solve)(case.parameters)
    yield _escapes("escaped values", lambda: seen[0].penalty)

    def around() -> Any:
        with case.observe(case.local_error):
            case.trial.compiled(lambda parameters: case.solve(parameters * 1.0))(case.parameters)

    yield _escapes("block outside of a compiled function", around)


def _escapes(name: str, function: Callable[[], Any]) -> Fact:
    try:
        function()
    except EscapedTraceError as refusal:
        return Fact(name, True, str(refusal))
    return Fact(name, False, "was not refused")
