"""Where the lab's commands print, and the folder they write into."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from solvertap.errors import InvalidInputError


def wide_console() -> Console:
    """The terminal; a file gets lines long enough for a table."""
    console = Console()
    return console if console.is_terminal else Console(width=150)


def make_folder(out: Path) -> None:
    """Makes the folder of `--out`.

    Raises:
        InvalidInputError: it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(f"`--out` is {str(out)!r}, which cannot be made a folder: {error.strerror}.") from error
