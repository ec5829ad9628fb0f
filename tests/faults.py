"""The rows of the fault table: which test holds what is promised of a fault. See `tests/fault_table.py`."""

import pytest


def fault(what, happens):
    """A mark: where this goes wrong, or looks as if it might, the test shows that this is what happens."""
    return pytest.mark.fault(what, happens)
