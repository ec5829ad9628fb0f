"""Warnings of other packages while a command works: kept, and told in one line each."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

_OURS = "solvertap"


@contextmanager
def others_kept(console: Console) -> Iterator[None]:
    """As long as the block lasts, warnings of other packages are kept; after it each is a line, with how often it came.

    solvertap's own are shown at once. Where Python was told what to do with warnings (`-W`), that stays.
    """
    found: Counter[tuple[str, str]] = Counter()
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def keep(message: Warning | str, category: type[Warning], filename: str, *rest: Any, **named: Any) -> None:
            package = package_of(filename)
            if package.startswith(_OURS):
                shown(message, category, filename, *rest, **named)
            else:
                found[package, str(message).strip().partition("\n")[0]] += 1

        warnings.showwarning = keep
        try:
            yield
        finally:
            for (package, text), times in found.items():
                often = f", {times} times" if times > 1 else ""
                line = f"{package} warns{often}: {text}"
                console.print(line, style="dim", markup=False, highlight=False, no_wrap=True, overflow="ellipsis")


def package_of(filename: str) -> str:
    """The package that a file belongs to."""
    parts = Path(filename).parts
    for folder in ("site-packages", "core", "adapters"):
        if folder in parts[:-1]:
            return parts[len(parts) - parts[::-1].index(folder)].removesuffix(".py")
    return Path(filename).stem
