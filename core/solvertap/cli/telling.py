"""Writes to standard error, even a broken one, without harm to the script."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress

from rich.console import Console, RenderableType

_WIDTH = 110  # columns, if the width is not known


def tell(text: str) -> None:
    """Writes one line."""
    _write(text + "\n")


def show(*renderables: RenderableType) -> None:
    """Writes objects that rich renders."""
    with suppress(Exception):  # a stream of the script's own may raise whatever it likes
        console = Console(stderr=True)
        if not console.is_terminal:
            console = Console(stderr=True, width=_WIDTH)
        with console.capture() as captured:
            for each in renderables:
                console.print(each, soft_wrap=isinstance(each, str), markup=False, highlight=False)
        _write(captured.get())


def attempt(what: str, action: Callable[[], None]) -> None:
    """Calls a function whose failure must not harm the script; an exception becomes one sentence."""
    try:
        action()
    except Exception as error:
        tell(f"solvertap: {what}: {reason(error)}.")


def reason(error: BaseException) -> str:
    """What went wrong, without the path that the sentence names."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"{type(error).__name__}: {error}".rstrip(".: ")


def _write(text: str) -> None:
    stream = sys.stderr
    with suppress(Exception):
        if not isinstance(stream, io.TextIOWrapper):
            stream.write(text)
            return
        # Not through the buffer: text that cannot be written would stay there, and Python would exit with code 120.
        stream.flush()
        rest = text.encode(stream.encoding or "utf-8", "replace")
        while rest:
            rest = rest[os.write(stream.fileno(), rest) :]
