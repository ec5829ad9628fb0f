"""A listener of `regularize`, whose exceptions must not stop a solve."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..solves.injection import Record


class Guarded:
    """A listener whose exception is reported once, in a warning; it is not called again."""

    def __init__(self, listener: Callable[[Record], None]) -> None:
        self._listener: Callable[[Record], None] | None = listener

    def __call__(self, record: Record) -> None:
        if self._listener is None:
            return
        try:
            self._listener(record)
        except Exception as error:  # a user's function may raise anything
            self._listener = None
            warnings.warn(
                f"The listener of `regularize` raised {type(error).__name__}: {error} It is not called again, and the "
                "solves go on.",
                RuntimeWarning,
                stacklevel=2,
            )
