"""Where in the caller's own code a solve stands."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from sysconfig import get_paths
from types import FrameType

_LIBRARIES = tuple(str(Path(get_paths()[name])) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def place() -> str:
    """The innermost frame that is no library's, as "train.py:42"; "an unknown place" where there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not _is_library(frame.f_code.co_filename, frame.f_globals.get("__name__", "")):
            return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        frame = frame.f_back
    return "an unknown place"


@cache
def _is_library(file: str, module: str) -> bool:
    return file.startswith((*_LIBRARIES, "<frozen")) or module.split(".")[0].startswith("solvertap")
