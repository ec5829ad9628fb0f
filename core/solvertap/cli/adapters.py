"""`solvertap adapters`: what was found, what fits, what failed and why."""

from __future__ import annotations

from importlib import import_module

from rich.console import Console
from rich.table import Table

from ..attachment import attach, attached
from ..plugins import plugins


def adapters() -> None:
    """List the adapters found, the version of each framework, and the plugins that failed to load."""
    found = plugins()
    # Attaching is what an observation does, so it is what tells whether an adapter fits.
    for adapter in found.adapters.values():
        if adapter.distribution is not None and adapter.version() is not None:
            import_module(adapter.module)
    attach()
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
    console.print(f"Terms: {', '.join(sorted(found.terms))}.")
    for failure in found.failures:
        console.print(f"Failed: the plugin {failure.name!r} of {failure.distribution!r}: {failure.reason}", style="red")
