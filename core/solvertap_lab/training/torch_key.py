"""Random numbers for a problem in torch."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

_USES = ("training", "prediction", "validation")


class TorchKey:
    """A `Key` with a generator of its own, so that the Brownian paths of torchsde stay as they are.

    Args:
        seed: of the command line.
        use: what is drawn for; the numbers of one have nothing to do with those of another.
        dtype: of what is drawn.
    """

    def __init__(self, seed: int, use: Literal["training", "prediction", "validation"], dtype: torch.dtype) -> None:
        # SeedSequence mixes the two; torch takes any 64 bits.
        mixed = np.random.SeedSequence([seed, _USES.index(use)]).generate_state(1, np.uint64)
        self._generator = torch.Generator().manual_seed(int(mixed[0]))
        self._dtype = dtype

    def state(self) -> torch.Tensor:
        """Where it stands, as bytes."""
        return self._generator.get_state()

    def restore(self, state: torch.Tensor) -> None:
        """Goes on from there."""
        self._generator.set_state(state)

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=self._generator, dtype=self._dtype)

    def uniform(self, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.rand(shape, generator=self._generator, dtype=self._dtype)
