"""Solves in TensorBoard."""

from __future__ import annotations

from typing import Any

from .log import Log, Solved


class TensorBoardLog(Log):
    """Adds scalars `solvertap/forward/evaluations` and so on, over the number of solves.

    Args:
        writer: a writer of `torch.utils.tensorboard`, or any object with its `add_scalar`. It stays open.
    """

    def __init__(self, writer: Any) -> None:
        super().__init__()
        self._writer = writer

    def write(self, solved: Solved) -> None:
        for name, value in solved.scalars().items():
            self._writer.add_scalar(name, value, solved.solve)

    def write_budget(self, scalars: dict[str, float]) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, self._solves)
