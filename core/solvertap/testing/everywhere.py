"""A pytest plugin that observes every solve of other people's tests.

    python -m pytest -p solvertap.testing.everywhere path/to/their/tests

An observation of statistics is open around every test, its fixtures included. A suite that passes without it must
pass with it: any change is a defect of solvertap, or of the adapter being tested.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from ..observing.observation import Observation
from ..plugins.attachment import attach, detach
from ..solves.framework import Framework
from ..solves.request import Request
from ..solves.scope import NOBODY, Scope, scope
from ..solves.solve import Solve

_KEY = "solvertap_solves"


class _Counted(list[Solve]):
    """Counts the solves and stores none: JAX reports a value stored beyond its trace as a leak."""

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts

    def append(self, solve: Solve) -> None:
        self.counts[solve.adapter.name] += 1


class _Everywhere(Observation):
    """Sees every solve, however deep it is traced."""

    def __init__(self, counts: Counter[str], trace: bool) -> None:
        super().__init__(None, Request(trace=trace), key=None, phase=NOBODY.phase)
        self.opened = _Counted(counts)

    def sees(self, framework: Framework) -> bool:  # noqa: ARG002  # nobody reads the values
        return True


class Everywhere:
    """Opens an observation around every test, and prints at the end how many solves it saw."""

    def __init__(self, trace: bool) -> None:
        self.trace = trace
        self.counts: Counter[str] = Counter()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Iterator[Any]:
        attach()
        token = scope.set(Scope((_Everywhere(self.counts, self.trace),), NOBODY.phase))
        try:
            return (yield)
        finally:
            scope.reset(token)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        detach()
        output: Any = getattr(session.config, "workeroutput", {})  # of a worker of pytest-xdist
        output[_KEY] = dict(self.counts)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Adds the counts of a worker of pytest-xdist."""
        self.counts.update(getattr(node, "workeroutput", {}).get(_KEY, {}))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        terminalreporter.write_line(f"solvertap observed {self.counts.total()} solves{kinds and f' ({kinds})'}")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option `--solvertap-trace`."""
    parser.getgroup("solvertap").addoption(
        "--solvertap-trace",
        action="store_true",
        help="also trace every solve, which measures every step",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Registers the plugin."""
    config.pluginmanager.register(Everywhere(bool(config.getoption("--solvertap-trace"))), "solvertap-everywhere")
