"""What is declared is served, and what is not declared is refused with a remedy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...attaching.trial import Trial
from ...errors import SolvertapError
from ...observing.regularize import regularize
from ...plugins.attachment import attach
from ...plugins.registry import plugins
from ...terms.local_sample import LocalSample
from ...terms.term import Term
from .case import ROWS, Case
from .facts import Fact
from .neutrality import fixed
from .terms import VALUE


def undeclared(case: Case) -> Iterator[Fact]:
    """Each capability that is not declared is refused before the field is called, with a remedy."""
    asked: dict[str, dict[str, Any]] = {
        "terms": {"term": case.local_error, "replay": False},
        "trace": {"trace": True},
        "samples": {"term": LocalSample(case.local_error), "key": fixed},
        "align": {"align": True},
        "checkpoint": {"checkpoint": True},
    }
    for name, options in asked.items():
        if name not in case.adapter.serves:
            yield refused(case, f"refuses {name}", **options)
    if not case.adapter.serves.regularize:
        with regularize(case.local_error) as regularizer:
            case.solve(case.parameters)
        reasons = list(regularizer.left_out)
        yield Fact("refuses regularize", bool(reasons), f"left out: {reasons}")


def aligned(case: Case) -> Iterator[Fact]:
    """Aligned, the last step ends at the last time, and values and gradients are those of the reference."""
    if not case.adapter.serves.align:
        return
    with case.observe(trace=ROWS, align=True) as seen:
        case.solve(case.parameters, first=None)
    trace = case.trace(seen)
    off = abs(float((trace["t"] + trace["h"])[trace["accepted"]][-1]) - case.trial.t1)
    yield Fact("aligned, the last step", off <= 1e-12, f"ends {off:.1e} from the last time")
    reference = case.trial.reference
    if reference == "":
        return
    adapter = plugins().adapters.get(reference or "")
    if adapter is None or adapter.version() is None or (trial := adapter.trial()) is None:
        yield Fact("aligned, parity", False, f"`Trial.reference` is {reference!r}, which names no installed adapter")
        return
    attach()
    with trial.environment():
        wanted = _aligned(Case(adapter, trial), case.trial)
    found = _aligned(case, case.trial)
    off = abs(found[0] / wanted[0] - 1)
    yield Fact("aligned, parity", off <= VALUE, f"off by {off:.1e} from {reference} (allowed: {VALUE:.0e})")
    off = float(np.linalg.norm(found[1] - wanted[1]) / np.linalg.norm(wanted[1]))
    yield Fact("aligned, parity of the gradient", off <= 1e-7, f"off by {off:.1e} from {reference} (allowed: 1e-07)")


def _aligned(case: Case, problem: Trial) -> tuple[float, Any]:
    term = case.term

    def penalty(parameters: Any) -> tuple[Any, Any]:
        with case.observe(term, align=True) as seen:
            case.solve(parameters, field=problem.field, first=None)
        return seen.penalty, seen.penalty

    gradient, value = case.trial.differentiate(penalty, case.parameters)
    return case.number(value), case.numpy(gradient)


def refused(
    case: Case,
    name: str,
    term: Term | None = None,
    *,
    kind: type[SolvertapError] = SolvertapError,
    method: Any = None,
    **options: Any,
) -> Fact:
    """Whether a request is refused before the field is called, by an error of a kind, with a remedy."""
    calls: list[int] = []

    def field(t: Any, y: Any, parameters: Any) -> Any:
        calls.append(1)
        return case.trial.field(t, y, parameters)

    def total(parameters: Any) -> tuple[Any, Any]:
        with case.observe(term, **options):
            y1 = case.solve(parameters, field=field, method=method)
        return y1.sum(), None

    try:
        case.trial.differentiate(total, case.parameters)
    except SolvertapError as refusal:
        message = str(refusal)
        goes_on = "; " in message or ". " in message
        kept = len(calls) <= case.trial.calls_before and goes_on and isinstance(refusal, kind)
        return Fact(name, kept, f"{type(refusal).__name__} after {len(calls) or 'no'} evaluations: {message}")
    return Fact(name, False, "was not refused")
