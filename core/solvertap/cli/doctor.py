"""`solvertap doctor`: checks that the adapters keep their promises with the installed versions."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ..attaching.adapter import Adapter
from ..errors import InvalidInputError, UnknownNameError
from ..plugins.registry import plugins
from ..testing.conformance import PROMISES, QUICK, Report, examine
from .adapters import print_failures
from .others import others_kept


def _names(incomplete: str) -> list[str]:
    return [name for name in sorted(plugins().adapters) if name.startswith(incomplete)]


def doctor(
    adapter: Annotated[
        list[str] | None,
        typer.Argument(help="which adapters to examine", show_default="every one installed", autocompletion=_names),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help='where to solve, such as "cpu" or "cuda"', show_default="the framework's choice")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="run the whole conformance kit, which takes minutes")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="print every fact, not only the verdict")] = False,
) -> None:
    """Solve a small problem with each adapter and check what it promises.

    The exit code is 1 if a promise is broken or a plugin cannot be loaded, else 0. To refuse a term that the
    solver cannot serve breaks no promise. Of an adapter without a trial only the patches are examined.

    The promises, in float64: observed solutions and their gradients are bitwise the bare ones, a penalty's gradient is
    that of difference quotients on the frozen grid, every patched attribute is restored. Run it after an upgrade.

    Example: solvertap doctor torchdiffeq --device cuda
    """
    found = plugins()
    unknown = [name for name in adapter or [] if name not in found.adapters]
    if unknown:
        raise UnknownNameError.of("adapter", unknown[0], sorted(found.adapters))
    console = Console()
    reports = []
    for name in adapter or sorted(found.adapters):
        each = found.adapters[name]
        if each.distribution is not None and each.version() is None:
            console.print(f"{name}: not installed")
            continue
        with others_kept(console), console.status(f"examining {name}"):
            import_module(each.module)
            if device is not None:
                _require_device(each, device)
            reports.append(examine(each, device=device, promises=PROMISES if every else QUICK))
        _print(console, reports[-1], verbose)
    print_failures(console)
    if found.failures or any(report.failure for report in reports):
        raise typer.Exit(1)


def _require_device(adapter: Adapter, device: str) -> None:
    try:
        adapter.trial(device)
    except Exception as error:  # frameworks raise various errors for a missing device
        try:
            adapter.trial()
        except Exception:  # the trial itself is broken, which is what `examine` reports
            return
        line = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
        raise InvalidInputError(
            f"`--device` is {device!r}, which {adapter.name!r} does not find here ({line}); name another, or none."
        ) from error


def _print(console: Console, report: Report, verbose: bool) -> None:
    adapter, failure = report.adapter, report.failure
    label = f"{adapter.name} {adapter.version() or ''}".strip()
    if verbose:
        table = Table(title=label, title_justify="left", show_header=False)
        for fact in report.facts:
            table.add_row(fact.name, "yes" if fact.kept else "[red]no[/]", fact.found)
        console.print(table)
    if failure is None and not report.tried:
        console.print(f"{label}: [yellow]not examined beyond its patches[/], it brings no trial", soft_wrap=True)
    elif failure is None:
        refused = report.refused and f", and refuses: {', '.join(report.refused)}"
        console.print(f"{label}: [green]pass[/]{refused or ''}", soft_wrap=True)
    else:
        console.print(f"{label}: [red]FAIL[/], {failure.name}: {failure.found}", soft_wrap=True)
