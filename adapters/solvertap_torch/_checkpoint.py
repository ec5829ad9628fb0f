"""Where `torch.utils.checkpoint` computes once more what it has not kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from torch.utils import checkpoint

from solvertap.adapting import Patches, later

from .backward import tap_backward


def attach(patches: Patches) -> None:
    """Places the taps. The names are those of torch 2.13; both have been there since 2.1."""
    # checkpoint.py::checkpoint calls the function itself, then hands it to this generator to call it again.
    patches.replace(checkpoint, "_checkpoint_without_reentrant_generator", _tapped_generator)
    tap_backward(patches, checkpoint.CheckpointFunction, "recomputation")


def _tapped_generator(generator: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(generator)
    def tapped(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        again = later("recomputation")

        def recomputed(*inputs: Any, **named: Any) -> Any:
            return again().call(fn, *inputs, **named)

        return generator(recomputed, *args, **kwargs)

    return tapped
