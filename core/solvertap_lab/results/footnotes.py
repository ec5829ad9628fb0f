"""What is to be known of a table where runs were trained side by side or for days, or their weights were searched."""

from __future__ import annotations

from collections.abc import Sequence

from ..training.run import Run
from ..training.timing import STEPS


def times_told(runs: Sequence[Run]) -> str:
    """Some sentences; nothing where every run was trained alone and on the same day."""
    beside = max((run.beside for run in runs), default=0)
    told = (
        f"{sum(run.beside > 0 for run in runs)} of {len(runs)} runs were trained beside others, up to {beside}: their"
        " training seconds are no clean measurement. "
        if beside
        else ""
    )
    if len({day for run in runs for day in run.days}) > 1:
        told += "The runs were trained on several days, and no machine is equally fast on all. "
    elif len({run.timed for run in runs if run.timed}) > 1:
        told += "Milliseconds were measured on several days, and no machine is equally fast on all. "
    if any(run.timed_after for run in runs):
        told += (
            "Milliseconds were measured after all training, one run at a time; a step's are then the median of "
            f"{STEPS} from the trained weights. "
        )
    if any(run.waits_for_times for run in runs):
        told += "Milliseconds that are NaN are still to be measured; `--resume` does. "
    return told


def search_told(runs: Sequence[Run]) -> str:
    """A sentence; nothing where every weight was given."""
    if not any(run.trials for run in runs):
        return ""
    return (
        "`trials` have chosen the weight of a method: the fewest evaluations of a training solve among those whose "
        "validation metric is kept. "
    )
