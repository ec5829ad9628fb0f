"""Why a block saw no solve."""

from __future__ import annotations

import sys

from ..plugins.attachment import attached, misfits
from .unadapted import sentences


def why_nothing(failed: int) -> str:
    """What is most likely first: a library without an adapter, then what can happen with the frameworks in use."""
    if failed:
        return f"No solve of this block came to its end: {failed} failed; `seen.failed` has them."
    known = ", ".join(sorted(attached())) or "none"
    reasons = [
        "nothing was solved",
        f"the solver's library has no adapter or was first imported inside the block (attached: {known})",
    ]
    if "jax" in sys.modules:
        reasons.append(
            "the solve runs in a function that `jax.jit` compiled before the block began (open the block inside that "
            "function)"
        )
    cause = ", or ".join(reasons)
    return " ".join([f"No solve was seen in this block. Either {cause}.", *sentences(), *misfits().values()])
