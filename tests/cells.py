"""The cells of the support table: which test proves what of which solver. See `tests/support_table.py`."""

import pytest

ASPECTS = ("value", "gradient", "parity")


def proves(framework, solver, terms, *aspects):
    """A mark: the test proves these aspects of these terms for this solver."""
    return pytest.mark.proves(framework, solver, tuple(terms), aspects)


def refuses(framework, solver, terms, reason):
    """A mark: the test shows that these terms are refused for this solver, and why."""
    return pytest.mark.refuses(framework, solver, tuple(terms), reason)
