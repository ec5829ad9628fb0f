"""Each sample of a batch is as if it were solved alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...attaching.trial import Trial
from .case import ROWS, Case
from .facts import Fact

_STARTS = np.array([[1.0, -0.5], [0.3, 0.8], [-1.2, 0.4], [0.1, 0.1], [2.0, -2.0]])
_ENDS = np.array([1.0, 0.2, 0.7, 0.9, 0.05])


def each_as_alone(case: Case) -> Iterator[Fact]:
    """Counts, values and traces of each sample, which has its own span, are those of a batch of that one."""
    if "batches" not in case.adapter.serves.names:
        return
    if type(case.trial).solve_batch is Trial.solve_batch:
        yield Fact("batches", False, "declared, and the trial has no `solve_batch`")
        return
    together = _observed(case, slice(None))
    alone = [_observed(case, slice(i, i + 1)) for i in range(len(_ENDS))]
    for name, found in together.items():
        wanted = np.concatenate([each[name] for each in alone])
        off = float(np.max(abs(found - wanted) / np.maximum(abs(wanted), 1e-300)))
        allowed = 0.0 if name in ("accepted", "rejected", "evaluations") else 1e-12
        yield Fact(f"batch, {name}", off <= allowed, f"each sample off by {off:.1e} from itself alone")
    steps = together["accepted"]
    yield Fact("premise: samples take different steps", len(set(steps.tolist())) > 1, f"{steps.tolist()} accepted")


def _observed(case: Case, which: slice) -> dict[str, Any]:
    trial = case.trial
    starts, ends = trial.array(_STARTS[which]), trial.array(_ENDS[which])
    with case.observe(case.term, trace=ROWS) as seen:
        y1 = trial.solve_batch(
            _of_samples, case.parameters, starts, 0 * ends, ends, rtol=trial.rtol, atol=trial.atol, first=0.05
        )
    stats = seen.stats
    found = {name: case.numpy(x) for name, x in seen.values.items()}
    lengths = [float(np.sum(trace.numpy()["h"])) for trace in seen.trace.samples()]
    counts = {name: case.numpy(getattr(stats, name)) for name in ("accepted", "rejected")}
    return {"solution": case.numpy(y1), "trace": np.array(lengths)} | counts | found


def _of_samples(t: Any, y: Any, parameters: Any) -> Any:
    """A field of states of shape (samples, 2)."""
    return 4 * (y @ parameters.reshape(2, 2)) / (1 + y * y) - y + 0 * t
