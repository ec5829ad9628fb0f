"""The tensors among the inputs or outputs of a function."""

from __future__ import annotations

from typing import Any

import torch


def flat(solution: Any) -> list[Any]:
    """The tensors of a tensor, or of tuples and lists of them."""
    if isinstance(solution, torch.Tensor):
        return [solution]
    return [x for part in solution for x in flat(part)] if isinstance(solution, tuple | list) else []
