"""Solves beside a progress bar."""

from __future__ import annotations

from typing import Any

from ..solves.request import FORWARD_NAME
from .log import Log, Solved


class Postfix(Log):
    """Shows evaluations and rejected steps of the last solve beside a bar: `with Postfix(bar): ...`.

    Args:
        bar: a bar of tqdm, or any object with its `set_postfix`.
    """

    def __init__(self, bar: Any) -> None:
        super().__init__()
        self._bar = bar

    def write(self, solved: Solved) -> None:
        if solved.phase == FORWARD_NAME:
            counts = {"evaluations": solved.evaluations, "rejected": solved.rejected}
            self._bar.set_postfix({name: "?" if n is None else n for name, n in counts.items()}, refresh=False)
