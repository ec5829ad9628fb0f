"""The command line. Needs the extra `cli`; without it the command says so."""

from __future__ import annotations

import sys
from collections.abc import Callable

from ..errors import MissingExtraError, SolvertapError

_USAGE_ERROR = 2


def main() -> None:
    """Runs `solvertap`. A mistake of the user is one sentence and exit code 2."""
    try:
        _read_command_line()
    except SystemExit as done:
        if done.code or not _pending():
            raise
    for job in _pending():
        job()


def _read_command_line() -> None:
    try:
        try:
            from .app import app
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] not in {"typer", "rich"}:
                raise
            raise MissingExtraError.of(f"{error.name}, which the command line is made of,", "cli") from error
        app()
    except SolvertapError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(_USAGE_ERROR) from None


def _pending() -> list[Callable[[], None]]:
    run = sys.modules.get(f"{__name__}.run")
    return [] if run is None else run.pending
