"""Checks of single numbers that an adapter gives, and how it is told what does not fit."""

from __future__ import annotations

from typing import Any, NoReturn

from ..errors import StepError


def does_not_fit(adapter: str, found: str, wanted: str) -> NoReturn:
    """Raises a `StepError` of an adapter: what it did, and what is wanted."""
    raise StepError(f"The adapter {adapter!r} {found}; {wanted}.")


def check_each(x: Any, name: str, adapter: str, batch: int | None) -> None:
    """Checks one number of a step, or one for each sample of a batch.

    Raises:
        StepError: it is something else.
    """
    if batch is None:
        check_scalar(x, name, adapter)
    elif getattr(x, "shape", None) != (batch,):
        shape = getattr(x, "shape", None)
        found = f"{name} = {x!r}" if shape is None else f"{name} of shape {tuple(shape)}"
        does_not_fit(adapter, f"handed over {found}", f"it has one entry for each of the {batch} samples of its batch")


def check_attempted(attempted: Any, adapter: str, batch: int | None) -> None:
    """Checks which samples of a batch attempted a step.

    Raises:
        StepError: it is no boolean for each sample, or there is no batch.
    """
    if batch is None:
        found = "handed over a step with `attempted`, which only the samples of a batch have"
        does_not_fit(adapter, found, "open it with `open_solve(self, like=y0, batch=...)`")
    check_each(attempted, "attempted", adapter, batch)


def check_scalar(x: Any, name: str, adapter: str) -> None:
    """Checks one number of a step.

    Raises:
        StepError: it is something else.
    """
    shape = getattr(x, "shape", None)
    if shape == () or isinstance(x, int | float):
        return
    if shape is None:
        does_not_fit(adapter, f"handed over {name} = {x!r}", "it is a scalar")
    does_not_fit(
        adapter,
        f"handed over {name} of shape {tuple(shape)}",
        "it is a scalar. Where samples take steps of their own, open their solve with "
        "`open_solve(self, like=y0, batch=...)`",
    )
