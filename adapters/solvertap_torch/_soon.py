"""Numbers that a device is still computing, for a thread that must not call the device.

A CUDA call on another thread breaks a graph that the program may be capturing, and waiting for the device slows the
program. So the program's own stream copies the numbers to host memory, where the other thread polls them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch

_MISSING = 0x7FF8_5017_E57A_9000  # the bits of a NaN that no arithmetic produces
_free: defaultdict[int, list[Any]] = defaultdict(list)  # never released, because that would be a CUDA call


def soon(values: Sequence[Any]) -> Callable[[], list[float] | None]:
    """What `Adapter.soon` gives for tensors."""
    if not values or any(x.device.type != "cuda" for x in values):
        on_host = [float(x.detach()) for x in values]  # other devices than CUDA wait
        return lambda: on_host
    count = len(values)
    try:
        host = _free[count].pop()
    except IndexError:
        host = _pinned(count)
    bits: Any = host.numpy().view("u8")
    bits[:] = _MISSING
    with torch.no_grad():
        numbers = torch.stack([x.detach().to(values[0].device, torch.float64) for x in values])
        host.copy_(numbers, non_blocking=True)

    def numbers_there() -> list[float] | None:
        if (bits == _MISSING).any():
            return None
        there: list[float] = host.tolist()
        _free[count].append(host)
        return there

    return numbers_there


def _pinned(count: int) -> Any:
    with torch.inference_mode(False):  # an inference tensor could not be written to later
        return torch.empty(count, dtype=torch.float64, device="cpu", pin_memory=True)
