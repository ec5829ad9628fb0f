"""Solves in TensorBoard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .log import Log, Solved

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


class TensorBoardLog(Log):
    """Adds scalars `solvertap/forward/evaluations` and so on, over the number of solves.

    Args:
        writer: of `torch.utils.tensorboard`, or anything with its `add_scalar`. It stays open.
    """

    def __init__(self, writer: SummaryWriter) -> None:
        super().__init__()
        self._writer = writer

    def write(self, solved: Solved) -> None:
        for name, value in solved.counts().items():
            self._writer.add_scalar(f"solvertap/{solved.phase}/{name}", value, solved.solve)
