"""What a state is: one array or several, of whatever library."""

from __future__ import annotations

from typing import Any

Array = Any
"""An array of whatever library, 0-d where a scalar is meant. The core never asks which."""

State = Any
"""An `Array`, or a tuple of them where the state has several parts."""


def parts(state: State) -> tuple[Array, ...]:
    """The arrays of a state, whether it is one array or a tuple of them."""
    return state if isinstance(state, tuple) else (state,)


def like_parts(state: State, arrays: tuple[Array, ...]) -> State:
    """Arrays as a state of the same kind: a tuple, or the one array."""
    return arrays if isinstance(state, tuple) else arrays[0]
