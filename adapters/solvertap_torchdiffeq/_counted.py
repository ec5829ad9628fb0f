"""A field whose evaluations are counted."""

from __future__ import annotations

from typing import Any

from torchdiffeq._impl import misc

from solvertap import unobserved
from solvertap.adapting import Counts


class CountedField:
    """A field that counts its evaluations, in a solve or in the recomputation of a backward pass."""

    def __init__(self, field: Any, counts: Counts) -> None:
        self.field = field
        self.counts = counts
        # misc.py::_check_inputs negates the field and its time for a solve backwards in time.
        self.sign = -1.0 if isinstance(getattr(field, "base_func", None), misc._ReverseFunc) else 1.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.counts.evaluations += 1
        return unobserved().call(self.field, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.field, name)
