"""The taps on the recomputation of `torch.utils.checkpoint`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from torch.utils import checkpoint

from solvertap.adapting import Patches, later

from .backward import tap_backward


def attach(patches: Patches) -> None:
    """Places the taps. The names are those of torch 2.13; both have been there since 2.1."""
    # checkpoint.py::checkpoint calls the function, then passes it to this generator, which calls it again.
    patches.replace(checkpoint, "_checkpoint_without_reentrant_generator", _tapped_generator)
    tap_backward(patches, checkpoint.CheckpointFunction, "recomputation")


def _tapped_generator(generator: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(generator)
    def tapped(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        phase = later("recomputation")

        def recomputed(*inputs: Any, **named: Any) -> Any:
            return phase().call(fn, *inputs, **named)

        return generator(recomputed, *args, **kwargs)

    return tapped
