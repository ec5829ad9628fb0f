"""Functions of one sample, mapped over a batch, and functions of the whole batch inside of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from solvertap.errors import InvalidInputError


def mapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function by `torch.func.vmap`."""
    return torch.func.vmap(function, randomness="different")


def batched(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the whole batch, called with one sample inside of `mapped`: it is evaluated once, on all."""

    def of_sample(*states: Any) -> Any:
        flat = [torch.as_tensor(x) for state in states for x in (state if isinstance(state, tuple) else (state,))]
        sizes = [len(state) if isinstance(state, tuple) else None for state in states]
        return _OfBatch.apply(function, sizes, *flat)  # type: ignore[no-untyped-call]  # torch's

    return of_sample


class _OfBatch(torch.autograd.Function):
    """A function that is only ever called under `vmap`; its rule calls it outside, where torch records it as usual."""

    @staticmethod
    def forward(function: Any, sizes: Any, *arrays: Any) -> Any:  # noqa: ARG004  # torch's signature
        raise InvalidInputError(
            "A field was evaluated at what depends on no sample of its batch; evaluate it at a state of the step, as "
            "in `step.field(step.t1, step.y1)`."
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        function, sizes, *arrays = inputs
        whole = iter(
            x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
            for x, dim in zip(arrays, in_dims[2:], strict=True)
        )
        states = [next(whole) if size is None else tuple(next(whole) for _ in range(size)) for size in sizes]
        result = function(*states)
        return result, (0,) * len(result) if isinstance(result, tuple) else 0
