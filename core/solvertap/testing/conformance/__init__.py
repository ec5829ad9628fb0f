"""A kit that proves an adapter: every promise that solvertap makes, run on a problem that the adapter's library solves.

The author of an adapter gives a `Trial`: how the library solves a field, takes one step, differentiates.

    from solvertap.testing.conformance import examine

    def test_adapter_conforms():
        report = examine(MyAdapter(), MyTrial())
        assert not report.failures, report

or, with the adapter's entry point installed and its `trial()` written, without a line of code:

    python -m pytest -p solvertap.testing.conformance.plugin --conform my-solver

A promise that the adapter declares and its trial cannot show is a failure. It needs NumPy, and pytest for the plugin.
"""

from .examine import PROMISES, QUICK, examine, promise
from .facts import Fact, Report

__all__ = ["PROMISES", "QUICK", "Fact", "Report", "examine", "promise"]
