"""What is counted is what was done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .case import ROWS, Case
from .facts import Fact


def counted(case: Case) -> Iterator[Fact]:
    """Evaluations are calls of the field; accepted and rejected steps are those of the trace, and the library's own."""
    with case.observe() as seen:
        calls = _calls(case)
    plain = seen.stats
    evaluations = case.number(plain.evaluations) if plain.evaluations is not None else None
    told = "none" if evaluations is None else f"{evaluations:g}"
    yield Fact("evaluations", evaluations == calls, f"{told} counted, {calls} calls of the field")
    own = {name: int(n) for name, n in case.trial.own_counts().items()}
    found = {name: case.number(getattr(plain, name)) for name in own}
    yield Fact("counts, the solver's own", found == own, f"{found or 'none'}; the library's: {own or 'not told'}")
    if case.adapter.serves.trace:
        yield from _by_trace(case, plain)
    if case.term is None:
        return
    with case.observe(case.term) as seen:
        calls = _calls(case)
    stats = seen.stats
    own_calls, added = case.number(stats.evaluations), case.number(stats.measuring)
    yield Fact(
        "evaluations, penalized",
        own_calls == evaluations and own_calls + added == calls,
        f"{own_calls:.0f} of the solver, {added:.0f} for the terms, {calls} calls of the field",
    )


def _by_trace(case: Case, plain: Any) -> Iterator[Fact]:
    with case.observe(trace=ROWS) as seen:
        case.solve(case.parameters)
    kept = case.trace(seen)["accepted"]
    found = case.number(plain.accepted), case.number(plain.rejected)
    told = f"{found[0]:.0f} accepted and {found[1]:.0f} rejected; in the trace {kept.sum()} and {(~kept).sum()}"
    yield Fact("counts, as traced", found == (kept.sum(), (~kept).sum()), told)
    yield Fact("premise: some steps are rejected", bool(found[1] > 0), told)


def _calls(case: Case) -> int:
    calls: list[int] = []

    def field(t: Any, y: Any, parameters: Any) -> Any:
        case.trial.reveal(lambda *_: calls.append(1), [parameters])
        return case.trial.field(t, y, parameters)

    case.solve(case.parameters, field=field)
    case.trial.settle()
    return len(calls) - case.trial.calls_before
