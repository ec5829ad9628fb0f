"""The norm of a step-size controller."""

from __future__ import annotations

from typing import Any

import optimistix as optx

from solvertap_jax.structure import as_tree


def as_norm(norm: Any, structure: Any) -> Any:
    """A norm of pytrees as a norm of states; None for the root mean square, which is the core's own."""
    if norm is None or norm is optx.rms_norm:
        return None
    return lambda state: norm(as_tree(structure, state))
