"""The runs of a comparison, in a folder that several processes may write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..training.backends import Backend
from ..training.comparison import Comparison
from ..training.methods import Method
from ..training.run import Place, Run
from .checkpoint import CheckpointFile
from .lock import Lock
from .record import read_runs
from .report import Report

Combination = tuple[Backend, Method, int]


class Ledger:
    """The runs that have ended, in the order of the comparison; those of other methods and seeds stand in front.

    `results.json` is read and written under a lock, so that nothing that another process has added is lost.

    Args:
        comparison: what is trained.
        folder: where they are kept; None for here alone.
        resume: whether what the folder holds is part of them, now and later; else it is replaced.
        failed: runs that this command has trained before, and that failed: they are not trained again.

    Attributes:
        runs: they, and those that failed in this command. The list stays the same object. A failure on file is none of
            them, since it is to be trained again; until then it is written back.
        trials: of the search that has chosen a method's weight, by its name.

    Raises:
        InvalidInputError: the folder holds results of something else, or what cannot be read.
    """

    def __init__(
        self, comparison: Comparison, folder: Path | None, *, resume: bool, failed: Iterable[Run] = ()
    ) -> None:
        self.comparison, self.folder, self.resume = comparison, folder, resume
        self.combinations: dict[Place, Combination] = {
            (backend.name, method.name, seed): (backend, method, seed) for backend, method, seed in comparison.runs()
        }
        self.trials: dict[str, int] = {}
        self.runs = self._ordered([*failed, *self._kept(failed=False)])

    def add(self, run: Run, *, pictures: bool = True) -> None:
        """Adds a run, in the place of an earlier one, and writes everything: an hour is not lost."""
        run.trials = self.trials.get(run.method, run.trials)
        if self.folder is None:
            self._put([run])
        else:
            self.write(self.folder, [run], pictures=pictures)

    def write(self, folder: Path, added: Sequence[Run] = (), *, pictures: bool = True) -> list[Path]:
        """Writes all that is known, with runs that are added to it; returns the paths."""
        with Lock(folder / ".results.lock").waited_for():
            kept = self._kept(failed=True)
            self._put([*(run for run in kept if run.failure is None), *added])
            report = Report(self.comparison, self._ordered([*kept, *self.runs]))
            return (report.write if pictures else report.write_texts)(folder)

    def report(self) -> Report:
        """What came of the comparison, with the failures on file that were not trained again."""
        return Report(self.comparison, self.known())

    def known(self) -> list[Run]:
        """The runs, and the failures on file that were not trained again."""
        return self._ordered([*self._kept(failed=True), *self.runs])

    def refresh(self) -> None:
        """Takes over what other processes have added."""
        self._put(self._kept(failed=False))

    def missing(self, checkpoints: Path | None) -> list[Place]:
        """What is to be trained. Of those that wait for their times the weights are needed: their checkpoints.

        Args:
            checkpoints: the folder of these.
        """
        done = {
            run.place: not run.waits_for_times or (checkpoints is not None and self.checkpoint(checkpoints, run).exists)
            for run in self.runs
        }
        return [place for place in self.combinations if not done.get(place)]

    def waiting(self) -> list[Run]:
        """Those of the comparison whose times are to be measured."""
        return [run for run in self.runs if run.waits_for_times and run.place in self.combinations]

    def checkpoint(self, folder: Path, run: Run, *, resume: bool = True) -> CheckpointFile:
        """The checkpoint of a run in a folder."""
        return CheckpointFile.of(folder, self.comparison, run, resume=resume)

    def fresh(self, place: Place) -> Run:
        """A run of which nothing is known yet."""
        return Run(*place, self.combinations[place][1].penalty())

    def _kept(self, *, failed: bool) -> list[Run]:
        if self.folder is None or not self.resume:
            return []
        return read_runs(self.folder, self.comparison, failed=failed)

    def _put(self, runs: Iterable[Run]) -> None:
        self.runs[:] = self._ordered([*self.runs, *runs])

    def _ordered(self, runs: Iterable[Run]) -> list[Run]:
        """One of each place, the last one, in the order of the comparison."""
        order = {place: k for k, place in enumerate(self.combinations)}
        found: dict[Place, Run] = {}
        for run in runs:
            known = found.get(run.place)
            # Another process may have measured it in the meantime.
            if known is None or not run.waits_for_times or known.waits_for_times or known.failure is not None:
                found[run.place] = run
        return sorted(found.values(), key=lambda run: order.get(run.place, -1))
