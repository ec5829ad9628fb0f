"""Solves whose backward pass solves again, backwards in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...attaching.trial import Trial
from ...errors import ContinuousAdjointError
from .case import Case
from .facts import Fact
from .requests import refused


def counted_once(case: Case) -> Iterator[Fact]:
    """Under a continuous adjoint a solve is counted once, bitwise; full terms are refused with a remedy."""
    if type(case.trial).adjoint is Trial.adjoint:
        return
    bare = _differentiated(case, None)
    found = _differentiated(case, case.observe, inside=case.adapter.counts_are_numbers)
    same = all(np.array_equal(a, b) for a, b in zip(bare[0], found[0], strict=True))
    yield Fact("adjoint, solution and gradient", same, "bitwise the bare ones")
    yield _phases(case, found[1], "adjoint, its backward pass")
    if case.adapter.counts_are_numbers:
        seen = _differentiated(case, case.observe, inside=False)[1]
        yield _phases(case, seen, "adjoint, a backward pass outside of the block")
    adjoint, kind = case.trial.adjoint, ContinuousAdjointError
    yield refused(case, "adjoint, a full term", case.local_error, kind=kind, method=adjoint)


def _phases(case: Case, seen: Any, name: str) -> Fact:
    if not case.adapter.counts_are_numbers:
        told = f"{len(seen.solves)} solves forwards; the backward pass of a transformation is out of reach"
        return Fact(name, len(seen.solves) == 1, told)
    stats, solves = seen.phases["adjoint"], len(seen.solves)
    told = f"{solves} solves forwards; backwards {stats.solves} with {stats.evaluations} evaluations"
    return Fact(name, solves == 1 and stats.solves > 0 and stats.evaluations > 0, told)


def _differentiated(case: Case, block: Callable[[], Any] | None, inside: bool = True) -> Any:
    blocks: list[Any] = []

    def total(parameters: Any) -> tuple[Any, Any]:
        if block is None or inside:
            y1 = case.solve(parameters, method=case.trial.adjoint)
        else:
            with block() as seen:
                y1 = case.solve(parameters, method=case.trial.adjoint)
            blocks.append(seen)
        return y1.sum(), y1

    if block is None or not inside:
        gradient, y1 = case.trial.differentiate(total, case.parameters)
    else:
        with block() as seen:
            gradient, y1 = case.trial.differentiate(total, case.parameters)
        blocks.append(seen)
    return (case.numpy(y1), case.numpy(gradient)), next(iter(blocks), None)
