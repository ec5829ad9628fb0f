"""What pytest finds marked, and the documents that are made of it."""

import contextlib
import io
import sys

import pytest


class _Collector:
    """A pytest plugin that reads the marks and runs nothing."""

    def __init__(self, names):
        self.names = names
        self.found = []

    def pytest_collection_modifyitems(self, items):
        for item in items:
            for name in self.names:
                self.found += [(name, mark.args, item.nodeid) for mark in item.iter_markers(name)]


def collect(*names):
    """(mark, its arguments, test) of every test that has one of these marks, in the order of the tests."""
    collector = _Collector(names)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "tests"], plugins=[collector])
    if code != pytest.ExitCode.OK:
        raise SystemExit(said.getvalue())
    return collector.found


def write_or_check(document, text):
    """Writes the document, or with `--check` exits with 1 if it is not what would be written."""
    if "--check" in sys.argv:
        sys.exit(0 if document.read_text() == text else f"{document.name} is not current; run `make docs`.")
    document.write_text(text)
