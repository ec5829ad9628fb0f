"""A pytest plugin that runs each promise against installed adapters as a test of its own.

python -m pytest -p solvertap.testing.conformance.plugin --conform my-solver
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from ...errors import UnknownNameError
from ...plugins.registry import plugins
from .examine import PROMISES, promise


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--conform NAME`, which may be given several times."""
    parser.addoption("--conform", action="append", default=[], metavar="ADAPTER", help="run the promises against it")


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Collects no file where adapters are named."""
    return True if config.getoption("--conform") else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[Any]) -> None:
    """Adds a test for each promise and adapter."""
    for name in config.getoption("--conform") or ():
        if name not in plugins().adapters:
            raise pytest.UsageError(str(UnknownNameError.of("adapter", name, sorted(plugins().adapters))))
        items += [PromiseItem.of(session, name, each) for each in PROMISES]


class PromiseItem(pytest.Item):
    """One promise, run against one adapter."""

    adapter: str
    promise: str

    @classmethod
    def of(cls, session: pytest.Session, adapter: str, promise: str) -> PromiseItem:
        """The test of this name."""
        item: PromiseItem = cls.from_parent(session, name=f"{adapter}: {promise}")
        item.adapter, item.promise = adapter, promise
        return item

    def runtest(self) -> None:
        """Runs it."""
        adapter = plugins().adapters[self.adapter]
        import_module(adapter.module)
        report = promise(self.promise, adapter)
        if not report.tried:
            pytest.fail(f"The adapter {self.adapter!r} brings no trial; write its `trial()`.", pytrace=False)
        if report.failures:
            pytest.fail(str(report), pytrace=False)

    def reportinfo(self) -> tuple[str, None, str]:
        """What stands before its result."""
        return "conformance", None, self.name
