"""The commands, each in a module of its own."""

from __future__ import annotations

import typer

from .adapters import adapters
from .compare import compare
from .doctor import doctor
from .run import RunCommand, run

app = typer.Typer(
    help="Taps the steps of differential-equation solvers: one penalty, the same in every framework.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(adapters)
app.command()(doctor)
app.command()(compare)
app.command(cls=RunCommand, context_settings={"allow_interspersed_args": False})(run)
