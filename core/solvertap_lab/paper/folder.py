"""The folder of `reproduce`: its table, the runs behind it, and its pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from solvertap.errors import InvalidInputError

from ..results.record import write_whole
from .evidence import results_of_csv, runs_as_csv
from .experiments import EXPERIMENTS
from .outcome import Result
from .table import markdown

FILES = ("table.md", "runs.csv", "paper.png", "paper-dark.png")


def read_folder(folder: Path) -> dict[str, Result]:
    """The results that it holds, by the name of the experiment.

    Raises:
        InvalidInputError: its `runs.csv` is none that `write_folder` wrote.
    """
    path = folder / "runs.csv"
    try:
        found = results_of_csv(path.read_text()) if path.exists() else []
    except InvalidInputError as error:
        raise InvalidInputError(f"{str(path)!r} cannot be read. {error}") from None
    return {each.experiment.name: each for each in found}


def write_folder(results: Iterable[Result], folder: Path, *, quick: bool = False) -> Sequence[Result]:
    """Writes all files anew, and returns the results in the order of the table. Needs matplotlib."""
    from ..results.looks import write_pictures
    from .picture import plot_paper

    places = [each.name for each in EXPERIMENTS]
    ordered = sorted(results, key=lambda each: places.index(each.experiment.name))
    table = markdown(ordered, command_of(ordered, quick=quick))
    write_whole(folder / "table.md", lambda path: path.write_text(table))
    write_whole(folder / "runs.csv", lambda path: path.write_text(runs_as_csv(ordered)))
    write_pictures(folder / "paper.png", partial(plot_paper, ordered))
    return ordered


def command_of(results: Sequence[Result], *, quick: bool) -> str:
    """The one that trains these and no others; a label stands for its experiments where all of them are there."""
    here = [each.experiment.name for each in results]
    asked: list[str] = []
    for label in dict.fromkeys(each.label for each in EXPERIMENTS):
        names = [each.name for each in EXPERIMENTS if each.label == label]
        asked += [label] if set(names) <= set(here) else [name for name in names if name in here]
    everything = len(here) == len(EXPERIMENTS)
    return " ".join(["solvertap reproduce", *([] if everything else asked), *(["--quick"] if quick else [])])
