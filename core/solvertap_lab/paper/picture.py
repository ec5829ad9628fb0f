"""The picture of the paper's table: metric against evaluations, with the paper's own points. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from solvertap.solves.look import PLAIN, ink, legend_below, marker_of, show_at_least

from ..results.looks import look_of
from ..training.methods import BUDGET, VANILLA, is_budget
from .figures import Figures
from .outcome import Outcome, Result, spread

_COLUMNS = 3
_NOISE = 0.2  # points of accuracy, or percent of the error: an axis shows twenty times as much, or more


def plot_paper(results: Sequence[Result]) -> Figure:
    """One panel for each label; upwards is better in all of them.

    The plain model stands at (1, 0). A fixed weight and a budget have the colours that they have everywhere. A
    framework has a shape, hollow for a weight that was not chosen. A cross is the paper's.
    """
    labels = list(dict.fromkeys(result.experiment.label for result in results))
    rows = -(-len(labels) // _COLUMNS)
    columns = min(_COLUMNS, len(labels))
    figure = Figure(figsize=(5 * columns, 1.2 + 3.8 * rows), layout="constrained")
    solvers = list(dict.fromkeys(result.experiment.solves_with for result in results))
    for place, label in enumerate(labels, start=1):
        axis = figure.add_subplot(rows, columns, place)
        shown = [result for result in results if result.experiment.label == label]
        axis.axhline(0, color=PLAIN, lw=0.8)
        axis.plot([1], [0], "o", color=PLAIN, ms=9, label="plain model", linestyle="none")
        if shown[0].experiment.paper is not None:
            _draw_paper(axis, shown[0].experiment.paper)
        for result in shown:
            _draw(axis, result, marker_of(solvers.index(result.experiment.solves_with)))
        _finish(axis, shown[0], label)
    legend_below(figure, figure.axes, columns=4)
    return figure


def _draw(axis: Axes, result: Result, marker: str) -> None:
    weights = [each for each in result.outcomes if each.method != VANILLA and not is_budget(each.method)]
    look: dict[str, Any] = {"capsize": 2, "lw": 1, "marker": marker, "ms": 7}
    weights.sort(key=lambda each: mean(each.evaluations))
    label, colour = result.experiment.solves_with, look_of(result.chosen.method)[0]
    _points(axis, result, weights, color=colour, mfc="none", **look)
    _points(axis, result, [result.chosen], label=f"{label}, weight", color=colour, linestyle="none", **look)
    budgets = [each for each in result.outcomes if is_budget(each.method)]
    _points(axis, result, budgets, label=f"{label}, budget", color=look_of(BUDGET)[0], linestyle="none", **look)


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
    axis.plot([evaluations], [better], "x", color=ink(), ms=9, mew=2, label="the paper", linestyle="none")


def _finish(axis: Axes, result: Result, label: str) -> None:
    unit = "points of accuracy" if result.experiment.unit == "points" else "% of the error"
    axis.set(title=label, xlabel="evaluations of a prediction (plain model = 1)", ylabel=f"better by ({unit})")
    axis.margins(y=0.1)
    axis.set_xlim(0, max(1.1, axis.get_xlim()[1]))
    show_at_least(axis, 20 * _NOISE)
