"""Whether a tensor has been changed in place."""

from __future__ import annotations

import math
from typing import Any


def version_of(x: Any) -> float:
    """How often a tensor was changed in place; NaN, which equals nothing, of `inference_mode`, which does not count."""
    return math.nan if x.is_inference() else x._version
