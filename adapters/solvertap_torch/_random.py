"""A block that leaves the program's random numbers as they were."""

from __future__ import annotations

from typing import Any

import torch


class untouched:
    """A block that restores torch's generators, those of the CPU and of one device.

    Restoring those of NumPy and `random` as well would take as long as a small step.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device if device.type not in ("cpu", "meta") else None

    def __enter__(self) -> None:
        self._state = torch.get_rng_state()
        if self.device is not None:
            self._of_device = torch.get_device_module(self.device).get_rng_state(self.device)

    def __exit__(self, *_: object) -> None:
        torch.set_rng_state(self._state)
        if self.device is not None:
            torch.get_device_module(self.device).set_rng_state(self._of_device, self.device)


def device_of(like: Any) -> torch.device:
    """The device of a state; the CPU if it is no tensor."""
    first = like[0] if isinstance(like, tuple) else like
    return first.device if isinstance(first, torch.Tensor) else torch.device("cpu")
