"""The table of the paper, measured again, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from statistics import geometric_mean, mean

from ..results.footnotes import times_told
from ..results.tabular import markdown_table
from ..training.methods import VANILLA, is_budget
from .experiments import Experiment
from .figures import PAPER, Figures
from .outcome import Outcome, Result, spread, worse_by

_HEADINGS = ("experiment", "in", "method", "seeds", "evaluations", "metric", "difference", "training", "prediction")
_NO_EFFECT = 0.95


def markdown(results: Sequence[Result], command: str) -> str:
    """The whole document.

    Args:
        results: of every experiment, in order.
        command: that wrote it.
    """
    parts = [
        "# The paper, measured again",
        f'Written by `{command}`. The paper is Pal, Ma, Shah, Rackauckas, "Opening the Blackbox" (ICML 2021); data and '
        "machine are others, and what can be compared are ratios to the plain model.",
        "A ratio is that of a penalized model to the plain one of the same seed: its mean over the seeds, and in "
        "brackets the smallest and the largest. Times are compared where both were measured on one day, else left "
        "out; a `*` says that others were trained beside them, so that the time of training is no clean measurement. "
        "`metric` is that of the test data; its difference to the plain model's has its standard deviation over the "
        "seeds. Weights were chosen on the validation data: the fewest evaluations of a training solve among those "
        "whose mean metric is no worse there than is allowed (below).",
        markdown_table(*rows(results)),
        *remarks(results),
        "## Every weight",
        "Differences and ratios as above; the plain model has its evaluations in the place of a ratio.",
        markdown_table(
            (*_HEADINGS[:7], "validation", *_HEADINGS[7:]), [row for each in results for row in _all_rows(each)]
        ),
        "## Settings",
        "\n".join(_settings(result) for result in results),
        times_told([run for result in results for run in result.runs]) + "Times leave out compilation.",
        *_machines(results),
    ]
    return "\n\n".join(parts) + "\n"


def rows(results: Sequence[Result]) -> tuple[Sequence[str], list[list[str]]]:
    """The headings and the rows of the paper's table: the paper's own, the chosen weight, the budget."""
    found = []
    for title, together in groupby(results, lambda result: result.experiment.label):
        of_one = list(together)
        paper = of_one[0].experiment.paper
        found += [] if paper is None else [_paper_row(title, paper)]
        for result in of_one:
            budgets = [each for each in result.outcomes if is_budget(each.method)]
            found += [_row(result, each) for each in (result.chosen, *budgets)]
    return _HEADINGS, found


def remarks(results: Sequence[Result]) -> list[str]:
    """How much faster on average, where the effect is absent, where no weight kept the metric, and what failed."""
    found = _averages(results)
    for result in results:
        chosen, experiment = result.chosen, result.experiment
        if worse_by(chosen, higher_is_better=result.higher_is_better) > experiment.allowed:
            found.append(
                f"**{experiment.name}**: no weight kept the validation metric within {experiment.allowance}; the one "
                "that came nearest is shown."
            )
        if mean(chosen.evaluations) > _NO_EFFECT:
            found.append(f"**{experiment.name}**: there is no effect on the evaluations.")
        found += [
            f"{experiment.name}: `{run.method}`, seed {run.seed}, failed and is left out: {run.failure}."
            for run in result.runs
            if run.failure is not None
        ]
    return found


def _paper_row(title: str, paper: Figures) -> list[str]:
    pairs = (paper.training, paper.prediction)
    difference = f"{paper.difference:+.2f} points" if paper.is_accuracy else f"{100 * paper.difference:+.2f} %"
    return [
        title,
        "the paper",
        paper.table,
        "",
        f"{_ratio_of(paper.evaluations):.2f}",
        f"{paper.metric[1]:.4g}",
        difference,
        *(f"{_ratio_of(pair):.2f}" for pair in pairs),
    ]


def _row(result: Result, outcome: Outcome) -> list[str]:
    return [
        result.experiment.label,
        result.experiment.solves_with,
        f"`{outcome.method}`",
        str(len(outcome.metric)),
        _ratio(outcome.evaluations),
        f"{mean(outcome.metric):.4g}",
        _difference(result.experiment, outcome.difference),
        _ratio(outcome.training) + (" *" if outcome.beside else ""),
        _ratio(outcome.prediction),
    ]


def _all_rows(result: Result) -> list[list[str]]:
    plain = [float(run.evaluations or 0) for run in result.runs if run.method == VANILLA and run.failure is None]
    found = []
    for each in result.outcomes:
        row = _row(result, each)
        row.insert(7, _difference(result.experiment, each.validation))
        found.append([*row[:4], f"{mean(plain):.0f}", row[5], *[""] * 4] if each.method == VANILLA else row)
    return found


def _averages(results: Sequence[Result]) -> list[str]:
    """How many times faster, averaged as the paper does: over its four experiments, the frameworks of each first."""
    timed = [each for each in results if each.chosen.training and each.chosen.prediction]
    untimed = [each.experiment.name for each in results if each.experiment.paper and each not in timed]
    by_table = [[each.chosen for each in timed if each.experiment.paper is figures] for figures in PAPER]
    if not all(by_table):
        return []
    prediction = [mean(1 / mean(each.prediction) for each in found) for found in by_table]
    training = [mean(1 / mean(each.training) for each in found) for found in by_table]
    theirs = [[1 / _ratio_of(pair) for pair in pairs] for pairs in zip(*map(_times, PAPER), strict=True)]
    return [
        f"On average over the four experiments of the paper, predictions are **{mean(prediction):.2f}** times faster "
        f"and training is **{mean(training):.2f}** times faster. The paper's tables have {mean(theirs[0]):.2f} and "
        f"{mean(theirs[1]):.2f} for this term, its text 1.84 and 1.45. The geometric means, in which one large factor "
        f"counts for less, are {geometric_mean(prediction):.2f} and {geometric_mean(training):.2f}, and the paper's "
        f"{geometric_mean(theirs[0]):.2f} and {geometric_mean(theirs[1]):.2f}."
        + (f" Not among them, for want of times of one day: {', '.join(untimed)}." if untimed else "")
    ]


def _times(figures: Figures) -> tuple[tuple[float, float], tuple[float, float]]:
    return figures.prediction, figures.training


def _settings(result: Result) -> str:
    experiment = result.experiment
    seeds = ", ".join(map(str, experiment.seeds))
    return f"- {experiment.name}: {result.title}; seeds {seeds}; allowed {experiment.allowance}"


def _machines(results: Sequence[Result]) -> list[str]:
    """Where each experiment was measured: one line for all of the same machine and versions."""
    names: dict[str, list[str]] = {}
    for result in results:
        names.setdefault(result.machine, []).append(result.experiment.name)
    if len(names) == 1:
        return [f"Measured with {machine}." for machine in names]
    return [f"Measured with {machine}: {', '.join(found)}." for machine, found in names.items()]


def _ratio(values: Sequence[float]) -> str:
    if not values:
        return ""
    text = f"{mean(values):.2f}"
    return text if len(values) == 1 else f"{text} ({min(values):.2f} to {max(values):.2f})"


def _difference(experiment: Experiment, values: Sequence[float]) -> str:
    factor, unit = (1, "points") if experiment.unit == "points" else (100, "%")
    text = f"{factor * mean(values):+.2f}"
    return f"{text} {unit}" if len(values) == 1 else f"{text} ± {factor * spread(values):.2f} {unit}"


def _ratio_of(pair: tuple[float, float]) -> float:
    plain, penalized = pair
    return penalized / plain
