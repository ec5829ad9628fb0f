"""The random numbers of the program, left as they are by what it did not ask for."""

from __future__ import annotations

from typing import Any

import torch


class untouched:
    """A block whose draws leave torch's generators, of the processor and of a device, where they were.

    Those of NumPy and of `random` would take as long as a small step, and are left to the field.
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
    """Where a state is; the processor where it is no tensor."""
    first = like[0] if isinstance(like, tuple) else like
    return first.device if isinstance(first, torch.Tensor) else torch.device("cpu")
