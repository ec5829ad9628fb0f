"""A training step that can be taken again and again, bare or observed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from solvertap import Observation

Block = Callable[[], Any]
"""Makes the block around the solve: `observe` with its arguments, or `nullcontext`."""


@dataclass(frozen=True)
class Step:
    """A training step that is ready to run.

    Attributes:
        run: takes it once.
        compile_seconds: what compiling it took; 0 where nothing is compiled.
        peak_bytes: the most that is held at any time of it, beyond what it is given.
    """

    run: Callable[[], Any]
    compile_seconds: float
    peak_bytes: int


def with_penalty(loss: Any, seen: Observation | None) -> Any:
    """The loss, and the penalty where one is observed."""
    return loss + seen.penalty if seen is not None and seen.weighted else loss
