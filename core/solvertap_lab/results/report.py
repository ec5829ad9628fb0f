"""A comparison as a table and as pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from ..training.comparison import PREDICTIONS, Comparison
from ..training.methods import RIVALS, VANILLA, split_weight
from ..training.run import Run
from ..training.solvers import solvers
from ..training.trajectories import of_prediction
from .footnotes import search_told, times_told
from .record import as_text, describe_machine, write_whole
from .tabular import TerminalTable, markdown_table

_NUMBERS = ("evaluations", "accepted", "rejected", "training s", "step ms", "prediction ms")
_VALIDATION, _TRIALS = "validation", "trials"


class Report:
    """What came of a comparison; over several seeds every number is a mean.

    Args:
        comparison: what was compared.
        runs: what was trained.
    """

    def __init__(self, comparison: Comparison, runs: Sequence[Run]) -> None:
        self.comparison = comparison
        self.runs = list(runs)

    def rows(self) -> list[list[str]]:
        """The headings, then one row for each backend and method, with the ratios to that backend's vanilla.

        There is a column of the validation metric where a run has one.
        """
        searched = any(run.trials for run in self.runs)
        headings = [
            self.comparison.problem.metric,
            *([_VALIDATION] if self._validated() else []),
            *_NUMBERS,
            *([_TRIALS] if searched else []),
        ]
        rows = [["backend", "method", *headings]]
        for backend in dict.fromkeys(run.backend for run in self.runs):
            plain = self._runs_of(backend, VANILLA)
            for method in dict.fromkeys(run.method for run in self.runs):
                if not any((run.backend, run.method) == (backend, method) for run in self.runs):
                    continue
                runs = self._runs_of(backend, method)
                measured = _measured(runs, plain, self._validated()) if runs else ["failed", *[""] * len(headings[1:])]
                if runs and searched:
                    measured.append(str(runs[0].trials or "-"))
                rows.append([backend, method, *measured])
        return rows

    def table(self) -> TerminalTable:
        """The rows for a terminal."""
        headings, *rows = self.rows()
        return TerminalTable(self.title(), headings, rows, right=headings[2:])

    def markdown(self) -> str:
        """The rows and the footnote for a document."""
        headings, *rows = self.rows()
        table = markdown_table(headings, rows, right=headings[2:])
        return "\n".join([f"# {self.title()}", "", table, "", *self.failures(), self.footnote(), ""])

    def failures(self) -> list[str]:
        """One line for each run that failed; the table leaves those out."""
        return [
            f"{run.backend} {run.method} (seed {run.seed}) failed: {run.failure}" for run in self.runs if run.failure
        ]

    def footnote(self) -> str:
        """What was measured, and where."""
        compiled = mean(run.compile_seconds for run in self.runs)
        seeds = ", over the seeds that both have ended" if len({run.seed for run in self.runs}) > 1 else ""
        return (
            "Evaluations, accepted and rejected steps are those of one solve over the whole test set, predictions "
            f"the median of {PREDICTIONS} such solves, `step ms` the median optimiser step; in brackets the ratio to "
            f"{VANILLA} in the same backend{seeds}. "
            + (f"`{_VALIDATION}` is the same metric of the validation data. " if self._validated() else "")
            + self._penalties()
            + (f"Training leaves out compilation, {compiled:.1f} s a model on average. " if compiled else "")
            + search_told(self.runs)
            + times_told(self.runs)
            + f"Measured with {describe_machine()}."
        )

    def write(self, folder: Path) -> list[Path]:
        """Writes `results.json`, `table.md` and the pictures, each whole or not at all; returns their paths.

        A front is drawn where a backend has trained three methods or more.
        """
        from .looks import write_pictures
        from .picture import has_front, plot_comparison, plot_front

        metric, title = self.comparison.problem.metric, self.title()
        paths = self.write_texts(folder)
        paths += write_pictures(folder / "comparison.png", partial(plot_comparison, self.runs, title))
        if has_front(self.runs):
            paths += write_pictures(folder / "front.png", partial(plot_front, self.runs, metric, title))
        return paths

    def write_texts(self, folder: Path) -> list[Path]:
        """Writes `results.json` and `table.md`: no time shows in a picture."""
        text = as_text(self.comparison, self.runs)
        results, table = folder / "results.json", folder / "table.md"
        write_whole(results, lambda path: path.write_text(text))
        write_whole(table, lambda path: path.write_text(self.markdown()))
        return [results, table]

    def title(self) -> str:
        """The problem and the settings."""
        c = self.comparison
        drawn = {run.seed for run in self.runs} or set(c.seeds)
        first, trajectories = c.problem.first_step, of_prediction(c.problem)
        parts = [
            f"{c.epochs} epochs of {c.batch_size}",
            f"{c.problem.optimiser.kind} {c.problem.optimiser.rate:g}",
            self._solvers(),
            "" if first is None else f"first step {first:g}",
            f"tolerance {c.tolerance:g}",
            ""
            if trajectories is None
            else f"paths: {c.problem.trajectories} in training and {trajectories} in predictions",
            f"{c.precision} bits",
            f"seed {min(drawn)}" if len(drawn) == 1 else f"{len(drawn)} seeds",
            "reference steps" if c.align else "",
            "" if c.data is None else f"data {Path(c.data).name}",
        ]
        return f"{c.problem.name}: {', '.join(part for part in parts if part)}"

    def _solvers(self) -> str:
        """The solver; of each backend by name, where they differ."""
        c = self.comparison
        used = {b.name: c.solver or solvers(b.name, c.problem)[0] for b in c.backends}
        one = set(used.values())
        return one.pop() if len(one) == 1 else ", ".join(f"{solver} ({name})" for name, solver in used.items())

    def _penalties(self) -> str:
        """What each method of terms adds to the loss."""
        of_terms = [run for run in self.runs if run.penalty and split_weight(run.method)[0] not in RIVALS]
        told = {run.method: run.penalty for run in of_terms}
        penalties = "; ".join(f"`{method}` is {penalty}" for method, penalty in told.items())
        return penalties and (
            "Penalties are sums over the steps unless mean or max is said, START:STOP is annealed over the epochs: "
            f"{penalties}. "
        )

    def _validated(self) -> bool:
        return any(run.validation is not None for run in self.runs)

    def _runs_of(self, backend: str, method: str) -> list[Run]:
        return [run for run in self.runs if (run.backend, run.method) == (backend, method) and run.failure is None]


def _measured(runs: Sequence[Run], plain: Sequence[Run], validated: bool) -> list[str]:
    validation = [run.validation for run in runs if run.validation is not None]
    return [
        _with_spread([run.metric for run in runs]),
        *([_with_spread(validation)] if validated else []),
        _with_ratio(runs, plain, lambda run: run.evaluations, ".0f"),
        _mean(runs, lambda run: run.accepted, ".0f"),
        _mean(runs, lambda run: run.rejected, ".0f"),
        _with_ratio(runs, plain, lambda run: run.train_seconds, ".1f"),
        _with_ratio(runs, plain, lambda run: run.step_milliseconds, ".1f"),
        _with_ratio(runs, plain, lambda run: run.predict_milliseconds, ".1f"),
    ]


def _with_spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    centre = f"{mean(values):.4g}"
    return centre if len(values) == 1 else f"{centre} ({min(values):.4g} to {max(values):.4g})"


def _mean(runs: Sequence[Run], read: Callable[[Run], Any], form: str) -> str:
    values = [read(run) for run in runs]
    return "-" if None in values else format(mean(values), form)


def _with_ratio(runs: Sequence[Run], plain: Sequence[Run], read: Callable[[Run], Any], form: str) -> str:
    text = _mean(runs, read, form)
    # A seed that one of them lacks, since it failed or was added, would be in one mean alone.
    both = {run.seed for run in runs} & {run.seed for run in plain}
    if text == "-" or not both or runs[0].method == VANILLA:
        return text
    ours, theirs = (mean(read(run) for run in of if run.seed in both) for of in (runs, plain))
    return f"{text} ({ours / theirs:.2f})"
