"""The command line. Needs the extra `cli`; without it the command says so."""

from __future__ import annotations

import sys
from collections.abc import Callable

from ..errors import MissingExtraError, SolvertapError

_USAGE_ERROR = 2


def main() -> None:
    """Runs `solvertap`. A mistake of the user gives one sentence and exit code 2."""
    try:
        for job in _read_command_line():
            job()
    except SolvertapError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(_USAGE_ERROR) from None


def _read_command_line() -> list[Callable[[], None]]:
    """Runs the command; returns the jobs to do when the command line itself has ended."""
    try:
        from .app import app
        from .run import pending
        from .usage import explain
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in {"typer", "rich"}:
            raise
        raise MissingExtraError.of(f"{error.name}, which the command line needs,", "cli") from error
    try:
        code = app(prog_name="solvertap", standalone_mode=False)
    except Exception as error:
        explain(error)
        raise
    if code:
        raise SystemExit(code)
    return pending
