"""The picture of the paper's table: metric against evaluations, with the paper's own points. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from solvertap.solves.figure import colour_of, marker_of

from ..training.methods import VANILLA, is_budget
from .experiments import Figures
from .outcome import Outcome, Result, spread

_COLUMNS = 3


def plot_paper(results: Sequence[Result]) -> Figure:
    """One panel a problem; upwards is better in all of them.

    The plain model stands at (1, 0). A framework has one colour: the line of its weights, the weight that was chosen
    filled, and its budget as a star. A black cross is the paper's.
    """
    problems = list(dict.fromkeys(result.experiment.problem for result in results))
    rows = -(-len(problems) // _COLUMNS)
    figure = Figure(figsize=(5 * _COLUMNS, 0.8 + 3.8 * rows), layout="constrained")
    solvers = list(dict.fromkeys(result.experiment.solves_with for result in results))
    for place, problem in enumerate(problems, start=1):
        axis = figure.add_subplot(rows, _COLUMNS, place)
        shown = [result for result in results if result.experiment.problem == problem]
        for result in shown:
            _draw(axis, result, solvers.index(result.experiment.solves_with))
        if shown[0].experiment.paper is not None:
            _draw_paper(axis, shown[0].experiment.paper)
        _finish(axis, shown[0], problem)
    lines = {label: line for axis in figure.axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(list(lines.values()), list(lines), loc="outside lower center", ncols=4)
    return figure


def _draw(axis: Axes, result: Result, number: int) -> None:
    weights = [each for each in result.outcomes if each.method != VANILLA and not is_budget(each.method)]
    look: dict[str, Any] = {"color": colour_of(number), "capsize": 2, "lw": 1}
    weights.sort(key=lambda each: mean(each.evaluations))
    label = result.experiment.solves_with
    _points(axis, result, weights, label=label, marker=marker_of(number), mfc="none", **look)
    _points(axis, result, [result.chosen], marker=marker_of(number), linestyle="none", **look)
    budgets = [each for each in result.outcomes if is_budget(each.method)]
    _points(axis, result, budgets, label=f"{label}, budget", marker="*", ms=11, linestyle="none", **look)


def _points(axis: Axes, result: Result, found: Sequence[Outcome], **look: Any) -> None:
    """The evaluations of each and how much better its metric is, with the spread over the seeds."""
    if found:
        scale = (1 if result.experiment.unit == "points" else 100) * (1 if result.higher_is_better else -1)
        better = [scale * mean(each.difference) for each in found]
        spreads = [abs(scale) * spread(each.difference) for each in found]
        axis.errorbar([mean(each.evaluations) for each in found], better, yerr=spreads, **look)


def _draw_paper(axis: Axes, paper: Figures) -> None:
    better = paper.difference if paper.is_accuracy else -100 * paper.difference
    evaluations = paper.evaluations[1] / paper.evaluations[0]
    axis.plot([evaluations], [better], "x", color="black", ms=9, mew=2, label="the paper", linestyle="none")


def _finish(axis: Axes, result: Result, problem: str) -> None:
    axis.axhline(0, color="grey", lw=0.8)
    axis.plot([1], [0], "o", color="grey", label="plain model", linestyle="none")
    unit = "points of accuracy" if result.experiment.unit == "points" else "% of the error"
    axis.set(title=problem, xlabel="evaluations over the plain model's", ylabel=f"better by, {unit}")
    axis.margins(y=0.1)
    low, high = axis.get_ylim()
    # No zoom into what is less than a point, or a hundredth: that is noise.
    axis.set(xlim=(0, max(1.1, axis.get_xlim()[1])), ylim=(min(low, -2), max(high, 2)))
