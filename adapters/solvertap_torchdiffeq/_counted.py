"""A field whose evaluations are counted."""

from __future__ import annotations

from typing import Any

from torchdiffeq._impl import misc

from solvertap import unobserved
from solvertap.adapting import Counts, Solve


class CountedField:
    """A field that counts its evaluations, in a solve or in the recomputation of a backward pass."""

    def __init__(self, field: Any, counts: Counts) -> None:
        self.field = field
        self.counts = counts
        self.sign = sign_of(field)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.counts.evaluations += 1
        return unobserved().call(self.field, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.field, name)


def sign_of(field: Any) -> float:
    """The sign of the user's time in the solver's: misc.py::_check_inputs negates a field and its time backwards."""
    sign = 1.0
    while isinstance(field, _WRAPPERS):  # `odeint_adjoint` wraps what its `odeint` wraps once more
        sign = -sign if isinstance(field, misc._ReverseFunc) else sign
        field = field.base_func
    return sign


def divide(solve: Solve, field: Any, y0: Any) -> None:
    """Divides a state among those who share its error: misc.py::_check_inputs makes one vector of a tuple."""
    while solve.shared and isinstance(field, _WRAPPERS):
        if isinstance(field, misc._TupleFunc):
            solve.divide(y0, tuple([tuple(shape) for shape in field.shapes]))
        field = field.base_func


_WRAPPERS = (misc._PerturbFunc, misc._ReverseFunc, misc._TupleFunc)
