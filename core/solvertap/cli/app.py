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

app: typer.Typer = typer.Typer(
    help="Taps the steps of differential-equation solvers: one penalty, the same in every framework.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"solvertap {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None: ...


app.command()(adapters)
app.command()(doctor)
for script in (run, explain):
    app.command(cls=RunCommand, context_settings={"allow_interspersed_args": False})(script)
for command in plugins().commands():
    app.command()(command)
