"""The field of an observed solve."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from solvertap import unobserved
from solvertap.adapting import Counts, Solve
from solvertap_torch import Recompute


class CountedField:
    """A field that counts its evaluations, in a solve or in the recomputation of a backward pass."""

    def __init__(self, field: Any, counts: Counts) -> None:
        self.field = field
        self.counts = counts

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.counts.evaluations += 1
        return self.field(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.field, name)

    def oriented(self, sign: int) -> Callable[..., Any]:
        """The field as a loop of torchdyn has it: `odeint` negates it, and its time, for a solve backwards in time."""
        return self if sign == 1 else lambda t, x: -self(-t, x)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """A block of evaluations that the program has not asked for: they change no count of torchdyn's own."""
        # defunc.py: `DEFunc` and `DEFuncBase` count their calls in `nfe`, which `NeuralODE` prints.
        modules = self.field.modules() if isinstance(self.field, torch.nn.Module) else ()
        found = [(module, module.nfe) for module in modules if "nfe" in vars(module)]
        try:
            with unobserved():
                yield
        finally:
            for module, nfe in found:
                module.nfe = nfe


class TappedField(CountedField):
    """The field that a tapped `odeint` hands on, by which the loop it calls finds the solve.

    Attributes:
        taken: whether a tapped loop has begun.
    """

    def __init__(self, field: Any, solve: Solve) -> None:
        super().__init__(field, solve.counts)
        self.solve = solve
        self.taken = False

    def take(self, step: Callable[..., Any], checkpoint: Recompute | None, sign: int, f: Any, *inputs: Any) -> Any:
        """What a step returns for a field and inputs; under `checkpoint` the backward pass takes it again.

        Args:
            step: a step of the solver, a function of (f, *inputs).
            checkpoint: of the solve.
            sign, f: of the loop's time against the user's, and the field as the loop has it.
            inputs: tensors.
        """
        if checkpoint is None:
            return step(f, *inputs)
        again = CountedField(self.field, checkpoint.counts)  # the graph must not hold the solve
        return checkpoint.call(partial(step, f), partial(_apart, again, sign, step), *inputs)


def _apart(field: CountedField, sign: int, step: Callable[..., Any], *inputs: Any) -> Any:
    with field.apart():
        return step(field.oriented(sign), *inputs)


def find(f: Any) -> tuple[TappedField, int] | None:
    """The tapped field of a loop, and the sign of its time against the user's; None in an unobserved solve."""
    if type(f) is TappedField:
        return f, 1
    # odeint.py: backwards in time f is `lambda t, x: -f(-t, x)`.
    for cell in (getattr(f, "__closure__", None) or ())[:1]:
        if type(cell.cell_contents) is TappedField:
            return cell.cell_contents, -1
    return None
