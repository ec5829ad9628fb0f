"""`solvertap adapters`: what was found, what fits, what failed and why."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from importlib import import_module

from rich.console import Console
from rich.table import Table

from ..attaching.adapter import Adapter
from ..attaching.serves import CAPABILITIES
from ..observing.observe import observe
from ..observing.unadapted import unadapted
from ..plugins.attachment import attach, attached, misfits
from ..plugins.registry import plugins
from ..testing.conformance.case import Case

_OBSERVERS = ("solvertap_solve_started", "solvertap_step", "solvertap_solve_finished")


def adapters() -> None:
    """List the adapters, terms and problems found, the framework versions, and the plugins that failed and why.

    Example: solvertap adapters
    """
    found = plugins()
    # Only attaching shows whether an adapter fits.
    for adapter in found.adapters.values():
        if adapter.distribution is not None and adapter.version() is not None:
            import_module(adapter.module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the output below says the same
        attach()
        if any(found.listens(hook) for hook in _OBSERVERS):
            _rehearse()
    table = Table("adapter", "framework", "version", "tested with", "inside", "attached")
    for name, adapter in sorted(found.adapters.items()):
        version, tested = adapter.version(), adapter.is_tested()
        table.add_row(
            name,
            adapter.distribution or adapter.module,
            version or ("-" if adapter.distribution is None else "not installed"),
            adapter.tested or "any",
            "-" if tested is None else ("yes" if tested else "no"),
            "yes" if name in attached() else "no",
        )
    console = Console()
    console.print(table)
    console.print(_capabilities(found.adapters.values()))
    console.print(f"Terms: {', '.join(sorted(found.terms))}.")
    console.print(f"Problems: {', '.join(sorted(found.problems()))}.")
    print_unadapted(console)
    print_failures(console)


def _capabilities(adapters: Iterable[Adapter]) -> Table:
    """What each adapter declares, of those that solve; see `Serves`."""
    table = Table("serves", *CAPABILITIES, box=None, padding=(0, 1, 0, 0))  # as narrow as a terminal
    for adapter in sorted(adapters, key=lambda adapter: adapter.name):
        if adapter.serves.names:
            table.add_row(adapter.name, *("yes" if name in adapter.serves else "-" for name in CAPABILITIES))
    return table


def print_unadapted(console: Console) -> None:
    """One line: the known solver libraries that are installed and have no adapter."""
    without = [f"{each.module} ({each.distribution} {each.version})" for each in unadapted() if each.version]
    if without:
        console.print(
            f"Installed without an adapter: {', '.join(without)}. Their solves are not seen; docs/plugins.md says "
            "how to write one.",
            soft_wrap=True,
        )


def print_failures(console: Console) -> None:
    """One line for each adapter that does not fit and each plugin that failed."""
    for reason in misfits().values():
        console.print(f"Failed: {reason}", style="red", soft_wrap=True)
    for failure in plugins().failures:
        culprit = f"the plugin {failure.name!r} of {failure.distribution!r}"
        console.print(f"Failed: {culprit}: {failure.reason}", style="red", soft_wrap=True)


def _rehearse() -> None:
    """Solves each trial, so that an observer that raises is reported."""
    for name in sorted(attached()):
        trial = plugins().adapters[name].trial()
        if trial is not None:
            case = Case(plugins().adapters[name], trial)
            with trial.environment(), observe():
                case.solve(case.parameters)
