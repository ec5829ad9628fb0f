"""Every attempted step that an adapter hands over, looked at: its times, its states, its slopes, its error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .case import PARAMETERS, ROWS, START, Case, Vector
from .facts import Fact

_ROUNDING = 1e-11  # relative to the largest number of its kind


def handed_over(case: Case) -> Iterator[Fact]:
    """Times, states, slopes and errors fit together."""
    if not case.adapter.serves.trace:
        return
    with case.steps() as steps, case.observe(case.term, trace=ROWS) as seen:
        case.solve(case.parameters)
    trace = case.trace(seen)
    order = np.lexsort((-abs(trace["h"]), abs(trace["t"] - case.trial.t0)))
    accepted, error = trace["accepted"][order], trace["local_error"][order]
    told = f"{len(steps)} steps handed over, {len(order)} in the trace"
    yield Fact("steps, all of them", len(steps) == len(order) > 0, told)
    if len(steps) != len(order) or not len(order):
        return
    t0 = np.array([float(step["t0"]) for step in steps])
    t1 = np.array([float(step["t1"]) for step in steps])
    off = max(np.max(abs(t0 - trace["t"][order])), np.max(abs(t1 - t0 - trace["h"][order])))
    yield _near("steps, times as traced", float(off), "the trace")
    yield _wrong("steps, accepted where E <= 1", accepted != (error <= 1), "are accepted with E > 1, or rejected below")
    starts = np.concatenate([[case.trial.t0], np.where(accepted, t1, t0)[:-1]])
    yield _wrong("steps, each from where the last one ended", abs(starts - t0) > 1e-12, "start elsewhere")
    late = t1[accepted][-1] - case.trial.t1
    yield Fact("steps, up to the end", bool(late >= -1e-12), f"the last one ends {late:.1e} after the end")
    yield from _states(steps, accepted)
    yield from _slopes(case, steps)


def _states(steps: list[dict[str, Any]], accepted: Vector) -> Iterator[Fact]:
    state, wrong = START.ravel(), []
    for step, kept in zip(steps, accepted, strict=True):
        wrong.append(_off(step["y0"], state) > _ROUNDING)
        state = step["y1"] if kept else state
    yield _wrong("steps, each from the state of the last one", np.array(wrong), "start from another state")


def _slopes(case: Case, steps: list[dict[str, Any]]) -> Iterator[Fact]:
    shown = [step for step in steps if step.get("tableau") is not None and step["tableau"].a is not None]
    if not shown:
        yield Fact("steps, slopes", True, "the solver shows none; its terms are compared with its single steps")
        return
    first, solution, error = 0.0, 0.0, 0.0
    for step in shown:
        h, k, tableau = step["t1"] - step["t0"], [np.asarray(x).ravel() for x in step["k"]], step["tableau"]
        slope = case.trial.field(step["t0"], step["y0"].reshape(START.shape), PARAMETERS).ravel()
        first = max(first, _off(k[0], slope))
        y1 = step["y0"] + h * sum(b * x for b, x in zip(tableau.b, k, strict=True))
        solution = max(solution, _off(step["y1"], y1))
        if tableau.e is not None and "error" in step:
            estimate = h * sum(e * x for e, x in zip(tableau.e, k, strict=True))
            size = abs(h) * np.max(abs(np.asarray(k)))  # the slopes nearly cancel
            error = max(error, float(np.min([np.max(abs(step["error"] - s * estimate)) for s in (1, -1)]) / size))
    yield _near("steps, k1 = f(t0, y0)", first, "the field at the start")
    yield _near("steps, y1 = y0 + h b.k", solution, "the slopes' sum")
    yield _near("steps, error = h e.k", error, "the slopes' sum")


def _off(found: Vector, wanted: Vector) -> float:
    return float(np.max(abs(found - wanted)) / max(np.max(abs(wanted)), 1e-300))


def _near(name: str, off: float, what: str) -> Fact:
    return Fact(name, bool(off <= _ROUNDING), f"off by {off:.1e} from {what} (allowed: {_ROUNDING:.0e})")


def _wrong(name: str, wrong: Vector, what: str) -> Fact:
    return Fact(name, not wrong.any(), f"{int(wrong.sum())} of {len(wrong)} {what}")
