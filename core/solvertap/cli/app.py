"""The commands, each in a module of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from ..plugins.registry import plugins
from .adapters import adapters
from .doctor import doctor
from .explain import explain
from .run import RunCommand, run

_SCRIPTS, _INSTALLED, _OTHERS = "Your scripts", "This installation", "Experiments, and what plugins bring"


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"solvertap {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """Taps the steps of differential-equation solvers: one penalty, the same in every framework.

    Example: solvertap run --term "0.1*local_error" train.py
    """


def _commands() -> typer.Typer:
    made = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, callback=_options)
    for script in (run, explain):
        settings = {"allow_interspersed_args": False}
        made.command(cls=RunCommand, context_settings=settings, rich_help_panel=_SCRIPTS)(script)
    for installed in (adapters, doctor):
        made.command(rich_help_panel=_INSTALLED)(installed)
    for command in plugins().commands():
        made.command(rich_help_panel=_OTHERS)(command)
    return made


app: typer.Typer = _commands()
