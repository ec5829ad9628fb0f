"""The batches of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np


def shuffled(rng: np.random.Generator, count: int, size: int) -> Iterator[np.ndarray[Any, Any]]:
    """The indices of each batch, all of one size: that asked for, or all there are."""
    size = min(size, count)
    order = rng.permutation(count)
    # A shorter last batch would be compiled anew; what it leaves out is drawn again in the next epoch.
    for start in range(0, count - size + 1, size):
        yield order[start : start + size]
