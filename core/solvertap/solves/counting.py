"""What one solve counts, measures and traces, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..steps.arrays import Array, State
from ..steps.checking import fixed_times, scalars
from ..steps.facts import Facts
from ..steps.step import Step, Steps
from ..terms.term import NamedTerm
from .extra_step import ExtraStep
from .framework import Framework
from .injection import Batch
from .input_check import InputCheck
from .loop import Loop
from .request import Request
from .requested import Requested
from .rows import TraceRow, trace_row
from .samples import Samples
from .stats import Counts, Stats
from .trace import Trace


class Counting(Requested):
    """Takes the steps of a Python loop into account, and says what was seen so far; see `Solve`."""

    def __init__(
        self,
        adapter: Framework,
        request: Request,
        loop: Loop,
        extra_step: ExtraStep | None,
        like: State | None,
        batch: int | None = None,
        replays: bool = False,
    ) -> None:
        super().__init__(adapter, request, loop, extra_step, like, replays)
        self.batch = batch
        self._samples = Samples.of(batch, like)
        self.closed = False
        self.finished = False
        self.counts: Counts = Counts()
        self.measuring: Counts = Counts()
        self._check = InputCheck(adapter.name, like, batch)
        self.facts: Facts | None = None
        self.place = ""
        self.random_layers: tuple[str, ...] = ()
        self._rows: list[TraceRow] = []
        self._attempted: list[Any] = []  # of each row of a batch
        self._trace: Trace | None = None
        self._taken_after: Mapping[NamedTerm, Array] = {}

    def count(self, accepted: bool) -> None:
        """Counts one attempted step of a Python loop, where steps need not be `described`."""
        if self._check.due:
            self._check.counted(bool(self.trace_wanted) or (accepted and self.measured), self.measured)
        self._loop.count(accepted)

    def count_each(self, accepted: Array, attempted: Array) -> None:
        """Counts one step of a batch, where steps need not be `described`.

        Args:
            accepted, attempted: as of `Step`, booleans of shape (batch,).
        """
        if self._check.due:
            self._check.counted(self.measured, self.measured)
        self._loop.count_each(accepted, attempted)

    def step(self, step: Step) -> None:
        """Takes one attempted step of a Python loop into account.

        Raises:
            StepError: the solve has ended; or the step, the first one, does not fit.
        """
        if self.abandoned:  # the loop goes on
            return
        if self._check.due:
            self._check.given(step, self.fold)
        step = fixed_times(step, self.adapter.constant)
        before = self.counts.evaluations, self.counts.diffusion_evaluations
        self._loop.add(step, None if self.extra_step is None else self.extra_step.source)
        if self.trace_wanted:
            self.facts = self.facts or Facts.of(step)
            batch = () if self.batch is None else (self.batch,)
            if self.shared and self.groups is None:
                self.divide(step.y1)
            row = trace_row(Steps.of(step) if batch else step, self.adapter.constant, self.groups)
            self._rows.append(row)
            self._attempted.append(step.attempted)
            scalars({"local_error": row.local_error}, step, self.adapter.name, batch)
        self.counts.move(self.measuring, *before)

    @contextmanager
    def counted_as_measuring(self) -> Iterator[None]:
        """A block in which a Python loop evaluates the field for the terms alone."""
        before = self.counts.evaluations, self.counts.diffusion_evaluations
        yield
        self.counts.move(self.measuring, *before)

    @property
    def values(self) -> Mapping[NamedTerm, Array]:
        """The value of each term so far.

        Raises:
            StepError: a traced loop has not given its carry.
        """
        if not self.finished and self.fold.traced:
            self._check.ending(self.fold, None)
        after = self._taken_after if self.finished or self.abandoned else self._take_after()
        return {**self.fold.values(self._loop.carry), **after}

    @property
    def stats(self) -> Stats:
        """The counts of this solve; in a batch those of each sample, arrays of shape (batch,), of `solves` 1."""
        accepted, rejected = (None, None) if self.closed else self._loop.counted[:2]
        own, added = self.counts, self.measuring
        stats = Stats(
            1,
            accepted,
            rejected,
            own.evaluations,
            own.diffusion_evaluations,
            added.evaluations,
            added.diffusion_evaluations,
        )
        return stats if self._samples is None else self._samples.each(stats)

    def over_samples(self, reduction: Batch) -> Mapping[NamedTerm, Array]:
        """The value of each term, in a batch reduced over its samples: their "mean" or "sum"."""
        return self.values if self._samples is None else self._samples.over(reduction, self.values)

    @property
    def numbers(self) -> tuple[Any, ...]:
        """Whatever was counted and summed."""
        return (*self._loop.counted[:2], *self._loop.carry.totals, *self._taken_after.values())

    @property
    def attempted(self) -> bool:
        """Whether there is any step in its trace."""
        return self._trace is not None or bool(self._rows)

    @property
    def trace(self) -> Trace:
        """The trace of this solve, where one was requested."""
        if self._trace is not None:
            return self._trace
        if self.batch is None:
            return Trace.of_rows(self._rows, self.adapter.to_numpy, self.groups)
        return Trace.of_batch(self._rows, self._attempted, self.adapter.to_numpy, self.batch, self.groups)

    def _take_after(self) -> Mapping[NamedTerm, Array]:
        """The values of the terms whose steps are taken when the others are: the replayed, and the sampled."""
        counted = self._loop.counted
        values: dict[NamedTerm, Array] = {}
        if self.replay is not None:
            values |= self.replay.values(counted.accepted)
            self.replay.counts.move(self.measuring, 0, 0)
        if self.extra_step is not None:
            with self.counted_as_measuring():
                values |= self.extra_step.values(counted.reservoirs, counted.accepted)
        return values
