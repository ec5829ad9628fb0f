"""One line about the solves at the bottom of a terminal, below the output of a script."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import IO, Any

from ..observing.regularize import regularize
from ..plugins.forking import Lock

_EVERY = 0.2  # seconds


class LiveLine:
    """A line on standard error that disappears before the script prints.

    It is shown only if both streams are terminals; else nothing is written, and the streams stay as they are.
    """

    def __init__(self, regularizer: regularize) -> None:
        self._regularizer = regularizer
        self._lock = Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._stop)
        self._shown = False
        self._drawn = 0.0
        self._midline = False
        self._broken = False
        self._streams: tuple[Any, Any] = (sys.stdout, sys.stderr)

    def __enter__(self) -> LiveLine:
        if all(stream is not None and stream.isatty() for stream in self._streams):
            sys.stdout, sys.stderr = (_Aside(stream, self) for stream in self._streams)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.step_aside()
        finally:
            for name, stream in zip(("stdout", "stderr"), self._streams, strict=True):
                if isinstance(getattr(sys, name), _Aside):
                    setattr(sys, name, stream)

    def _stop(self) -> None:
        self._broken = True  # in a forked child: the line is the parent's

    def draw(self, penalty: float | None) -> None:
        """Draws the line again, unless it has just been drawn, or the script has not ended a line of its own."""
        with self._lock():
            now = time.monotonic()
            if self._broken or not isinstance(sys.stderr, _Aside) or self._midline or now - self._drawn < _EVERY:
                return
            self._drawn, self._shown = now, True
            width = shutil.get_terminal_size().columns - 1
            self._write(f"\r\x1b[2m{self._text(penalty)[:width]}\x1b[0m\x1b[K")

    def step_aside(self, text: str = "") -> None:
        """Removes the line, before the script writes some text."""
        with self._lock():
            if self._shown:
                self._shown = False
                self._write("\r\x1b[K")
            if text:
                self._midline = not text.endswith("\n")

    def _write(self, text: str) -> None:
        _, stderr = self._streams
        try:
            stderr.write(text)
            stderr.flush()
        except (OSError, ValueError):  # the terminal is gone, or the script has closed the stream
            self._broken = True

    def _text(self, penalty: float | None) -> str:
        training = self._regularizer.stats.get("training")
        if training is None:
            return ""
        evaluations = "" if training.evaluations is None else f"{training.evaluations / training.solves:.1f}"
        parts = [
            f"{training.solves} training solves",
            f"{evaluations or '?'} evaluations a solve",
        ]
        if training.accepted is not None:
            parts.append(f"{training.accepted} steps accepted, {training.rejected} rejected")
        return " · ".join(parts if penalty is None else [*parts, f"penalty {penalty:.4g}"])


class _Aside:
    """A stream of the script: before each write, the live line is removed."""

    def __init__(self, stream: IO[str], line: LiveLine) -> None:
        self._stream = stream
        self._line = line

    def write(self, text: str) -> int:
        self._line.step_aside(text)
        return self._stream.write(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
