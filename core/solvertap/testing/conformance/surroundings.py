"""What goes on around a solve: threads, fields that solve or raise, taps that come and go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...attaching.adapter import Adapter
from ...plugins.attachment import attach, detach, patches_of
from .case import Case, Vector
from .facts import Fact


class FieldError(Exception):
    """What a field raises here."""


def imported_early(case: Case) -> Iterator[Fact]:
    """A solve by functions that were imported before the taps were placed is seen."""
    detach()
    case.solve(case.parameters)
    with case.observe() as seen:
        case.solve(case.parameters)
    count = len(seen.solves)
    yield Fact("early import", count == 1, f"{count} solves seen, of one by functions imported before attaching")


def raising(case: Case) -> Iterator[Fact]:
    """What a field raises comes through as it is; the solve is among those that failed; the next one is as ever."""
    bare = case.numpy(case.solve(case.parameters))
    caught: BaseException | None = None
    raised = FieldError("from the field")
    field = _raising(case, raised)
    with case.observe() as seen:
        try:
            case.solve(case.parameters, field=field)
        except Exception as error:
            caught = error
        after = case.numpy(case.solve(case.parameters))
    yield Fact("field that raises", caught is raised, f"{caught!r} came out; raised was {raised!r}")
    told = f"{len(seen.failed)} failed and {len(seen.solves)} succeeded, of one each"
    yield Fact("failed solve", (len(seen.failed), len(seen.solves)) == (1, 1), told)
    yield Fact("solve after a failed one", np.array_equal(after, bare), "bitwise the bare one")


def solving(case: Case) -> Iterator[Fact]:
    """A solve that a field makes is part of the field: it is not observed, and changes no count."""
    trial = case.trial

    def field(t: Any, y: Any, parameters: Any) -> Any:
        inner = case.solve(parameters, y0=trial.array(np.full((2, 2), 0.1)), t1=trial.t0 + 0.05, first=0.05)
        return trial.field(t, y, parameters) + 0.1 * inner

    bare = case.numpy(case.solve(case.parameters, field=field))
    calls: list[int] = []

    def counted(t: Any, y: Any, parameters: Any) -> Any:
        trial.reveal(lambda *_: calls.append(1), [parameters])
        return field(t, y, parameters)

    with case.observe() as seen:
        found = case.numpy(case.solve(case.parameters, field=counted))
    trial.settle()
    evaluations = case.number(seen.stats.evaluations)
    count = len(calls) - trial.calls_before
    kept = len(seen.solves) == 1 and evaluations == count
    told = f"{len(seen.solves)} solves and {evaluations:.0f} evaluations, of one with {count} calls of the field"
    yield Fact("field that solves", kept, told)
    yield Fact("field that solves, solution", np.array_equal(found, bare), "bitwise the bare one")


def threads(case: Case) -> Iterator[Fact]:
    """Threads see their own solves."""
    scales = (1.0, 0.9, 0.8)
    alone = [_measured(case, scale) for scale in scales]
    found: list[Any] = [None] * len(scales)
    barrier = threading.Barrier(len(scales), timeout=10)

    def work(i: int) -> None:
        try:
            with case.trial.environment():
                found[i] = _measured(case, scales[i], barrier)
        except Exception as error:  # it is what was found
            found[i] = error

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(scales))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    off = [f"{a} instead of {b}" for a, b in zip(found, alone, strict=True) if a != b]
    told = f"{len(off)} of {len(scales)} differ from the same solve alone: {'; '.join(off) or 'none'}"
    yield Fact("threads", found == alone, told)


def detached(case: Case) -> Iterator[Fact]:
    """A solve comes through, bitwise, if the taps are removed meanwhile; afterwards nothing is left of them."""
    bare = case.numpy(case.solve(case.parameters))
    attach()
    patches = patches_of(case.adapter.name)
    calls: list[int] = []

    def field(t: Any, y: Any, parameters: Any) -> Any:
        calls.append(1)
        if len(calls) == 9:
            detach()
        return case.trial.field(t, y, parameters)

    with case.observe():
        found = case.numpy(case.solve(case.parameters, field=field))
    detach()
    yield Fact("detached meanwhile", np.array_equal(found, bare), "bitwise the bare one")
    left = [patch.label for patch in patches if not patch.is_restored()]
    yield Fact("restored", not left, f"not given back: {', '.join(left)}" if left else f"all {len(patches)} attributes")
    with case.observe() as seen:
        again = case.numpy(case.solve(case.parameters))
    kept = len(seen.solves) == 1 and np.array_equal(again, bare)
    yield Fact("attached again", kept, f"{len(seen.solves)} solves seen, of one")


def _measured(case: Case, scale: float, barrier: threading.Barrier | None = None) -> tuple[float, ...]:
    """Counts and values; with a barrier the solve goes on when every thread is inside its own."""
    waiting = [barrier]

    def field(t: Any, y: Any, parameters: Any) -> Any:
        each = waiting.pop() if waiting else None
        if each is not None:
            each.wait()
        return case.trial.field(t, y, parameters)

    with case.observe(case.term) as seen:
        y1: Vector = case.numpy(case.solve(case.parameters * scale, field=field))
    values = [case.number(x) for x in seen.values.values()] if seen.weighted else []
    return (len(seen.solves), case.number(seen.stats.evaluations), float(y1.sum()), *values)


def _raising(case: Case, error: Exception) -> Any:
    """A field that raises in its second call, or in its first where the library traces it once."""
    traced: list[int] = []
    case.solve(case.parameters, field=_calling(case, lambda: traced.append(1)))
    last = min(case.trial.calls_before + 2, len(traced))
    calls: list[int] = []

    def count() -> None:
        calls.append(1)
        if len(calls) >= last:
            raise error

    return _calling(case, count)


def _calling(case: Case, function: Callable[[], None]) -> Any:
    def field(t: Any, y: Any, parameters: Any) -> Any:
        function()
        return case.trial.field(t, y, parameters)

    return field


def restored(case: Case) -> Iterator[Fact]:
    """After detaching every attribute is the original object."""
    yield from given_back(case.adapter)


def given_back(adapter: Adapter) -> Iterator[Fact]:
    """After detaching every attribute is the original object."""
    attach()
    patches = patches_of(adapter.name)
    detach()
    left = [patch.label for patch in patches if not patch.is_restored()]
    yield Fact("restored", not left, f"not given back: {', '.join(left)}" if left else f"all {len(patches)} attributes")
