"""What a penalty did to an experiment: seed by seed against the plain model, and which weight is to be had."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import mean, stdev
from typing import Literal

from solvertap.errors import InvalidInputError

from ..problems.finding import find_problem
from ..problems.problem import Problem
from ..results.record import describe_machine
from ..results.report import Report
from ..training.comparison import Comparison
from ..training.methods import VANILLA, is_budget
from ..training.run import Run
from .experiments import Experiment


@dataclass(frozen=True)
class Outcome:
    """One method of an experiment; every list has an entry for each seed that it and the plain model have ended.

    Attributes:
        method: as on the command line.
        metric: that of the test data.
        difference: the metric less that of the plain model, in its unit or as a share of its size.
        validation: the same of the validation data.
        solve: evaluations of a training solve in the last epoch.
        evaluations: of one prediction, as ratios to the plain model's.
        training, prediction: the times of all epochs and of one prediction, likewise; of the seeds alone whose two runs
            were trained, or timed, on one and the same day, since a machine is not equally fast from day to day.
        beside: whether one of these runs was trained beside others, so that `training` is no clean measurement.
    """

    method: str
    metric: tuple[float, ...]
    difference: tuple[float, ...]
    validation: tuple[float, ...]
    solve: tuple[float, ...]
    evaluations: tuple[float, ...]
    training: tuple[float, ...]
    prediction: tuple[float, ...]
    beside: bool


@dataclass(frozen=True)
class Result:
    """What came of an experiment.

    Attributes:
        experiment: what was measured.
        title: its settings in words.
        machine: the machine and the versions that it was trained with.
        higher_is_better: whether a larger metric is the better one.
        runs: all of them, also those that failed.
        outcomes: that of every method, the plain model's own first.
        chosen: the fixed weight to be had.
    """

    experiment: Experiment
    title: str
    machine: str
    higher_is_better: bool
    runs: Sequence[Run]
    outcomes: Sequence[Outcome]
    chosen: Outcome


def result_of(experiment: Experiment, comparison: Comparison, runs: Sequence[Run]) -> Result | None:
    """The result; None as long as no seed has a plain model and a fixed weight whose validation metrics are finite."""
    title = Report(comparison, runs).title()
    return result_of_runs(experiment, runs, title, describe_machine(), comparison.problem)


def result_of_runs(
    experiment: Experiment, runs: Sequence[Run], title: str, machine: str, problem: Problem | None = None
) -> Result | None:
    """The same without a comparison, of runs that were read from a file."""
    better = (problem or find_problem(experiment.problem)).higher_is_better
    found = outcomes(experiment.methods, experiment.seeds, experiment.unit, runs)
    chosen = choose(experiment.allowed, found, higher_is_better=better)
    return None if chosen is None else Result(experiment, title, machine, better, runs, found, chosen)


def choose(allowed: float, found: Sequence[Outcome], *, higher_is_better: bool) -> Outcome | None:
    """The fixed weight to be had, by the validation data alone.

    Of those whose mean validation metric is worse than the plain model's by no more than is allowed, the one whose
    training solves take the fewest evaluations in the last epoch; where there is none, the one that comes nearest; None
    where none has ended with metrics that are finite.
    """
    worse = partial(worse_by, higher_is_better=higher_is_better)
    fixed = [each for each in found if each.method != VANILLA and not is_budget(each.method)]
    weights = [each for each in fixed if math.isfinite(worse(each))]  # `min` takes a NaN that comes first
    kept = [each for each in weights if worse(each) <= allowed]
    if kept:
        return min(kept, key=lambda each: (mean(each.solve), worse(each)))
    return min(weights, key=worse, default=None)


def worse_by(outcome: Outcome, *, higher_is_better: bool) -> float:
    """How much worse the validation metric is, in the mean over the seeds."""
    return mean(outcome.validation) * (-1 if higher_is_better else 1)


def spread(values: Sequence[float]) -> float:
    """The standard deviation over the seeds; NaN for one seed, which has none."""
    return stdev(values) if len(values) > 1 else math.nan


def outcomes(
    methods: Sequence[str], seeds: Sequence[int], unit: Literal["points", "share"], runs: Sequence[Run]
) -> list[Outcome]:
    """The outcome of the plain model and of each method that has ended.

    A run that failed leaves its seed out, of its own method; of the plain model, of every method.

    Args:
        methods, seeds: which ones.
        unit: of the differences; that of the metric, or shares of the plain model's.
        runs: all of one backend.

    Raises:
        InvalidInputError: the unit is a share, and a plain model's metric is zero.
    """
    ended = {(run.method, run.seed): run for run in runs if run.failure is None}
    found = []
    for method in dict.fromkeys((VANILLA, *methods)):
        both = [seed for seed in seeds if {(method, seed), (VANILLA, seed)} <= ended.keys()]
        if both:
            found.append(_outcome(method, unit, [(ended[method, s], ended[VANILLA, s]) for s in both]))
    return found


def _outcome(method: str, unit: Literal["points", "share"], pairs: Sequence[tuple[Run, Run]]) -> Outcome:
    trained = [(run, plain) for run, plain in pairs if run.day == plain.day and len(run.days) == 1]
    timed = [(run, plain) for run, plain in pairs if _day_of_times(run) == _day_of_times(plain)]

    def ratio(of: Sequence[tuple[Run, Run]], read: Callable[[Run], float]) -> tuple[float, ...]:
        return tuple(read(run) / read(plain) for run, plain in of)

    def difference(read: Callable[[Run], float]) -> tuple[float, ...]:
        of: Callable[[float], float] = _size if unit == "share" else lambda _: 1.0
        return tuple((read(run) - read(plain)) / of(read(plain)) for run, plain in pairs)

    return Outcome(
        method,
        metric=tuple(run.metric for run, _ in pairs),
        difference=difference(lambda run: run.metric),
        validation=difference(_validation),
        solve=tuple(run.evaluations_by_epoch[-1] for run, _ in pairs),
        evaluations=ratio(pairs, lambda run: float(run.evaluations or math.nan)),
        training=ratio(trained, lambda run: run.train_seconds),
        prediction=ratio(timed, lambda run: run.predict_milliseconds),
        beside=any(run.beside for pair in trained for run in pair),
    )


def _validation(run: Run) -> float:
    return math.nan if run.validation is None else run.validation


def _day_of_times(run: Run) -> str:
    """The day on which its predictions were timed; before that was noted, the day on which it was trained."""
    return run.timed or run.day


def _size(metric: float) -> float:
    """What a difference is a share of: of a negative metric, a higher one is still the higher share."""
    if metric == 0:
        raise InvalidInputError(
            "No share can be taken of a plain model's metric of zero; give `--allowance` in the unit of the metric, as "
            "in `0.5`."
        )
    return abs(metric)
