"""The fold of a solve that steps in Python: what it has counted and summed so far."""

from __future__ import annotations

from ..steps.arrays import Array, State
from ..steps.step import Step
from .fold import Carry, Fold, Values
from .framework import Framework
from .reservoir import RandomSource


class Loop:
    """Folds the steps of a Python loop. Small steps are measured several at a time.

    Attributes:
        fold: what is folded.
        counted: the carry without the steps that still wait to be measured; its counts are up to date.
    """

    def __init__(self, fold: Fold, framework: Framework, like: State | None) -> None:
        self._framework = framework
        self._like = like if fold.terms else None  # until there are totals
        self._waiting: list[Step] = []
        self._measured: list[Values] = []
        self._together = 0
        self.fold: Fold = fold
        self.counted: Carry = Carry(0, 0, (), (None,) * len(fold.kinds))

    def count(self, accepted: bool) -> None:
        """Counts one attempted step of which nothing is measured."""
        carry = self.counted
        counts = (carry.accepted + 1, carry.rejected) if accepted else (carry.accepted, carry.rejected + 1)
        self.counted = Carry(*counts, carry.totals, carry.reservoirs)

    def count_each(self, accepted: Array, attempted: Array) -> None:
        """Counts one step of a batch of which nothing is measured."""
        carry, taken = self.counted, accepted & attempted
        rejected = carry.rejected + (attempted & ~taken)
        self.counted = carry._replace(accepted=carry.accepted + taken, rejected=rejected)

    def add(self, step: Step, source: RandomSource | None) -> None:
        """Takes one attempted step into account.

        Args:
            step: the attempt, whose times carry no gradient.
            source: what a `LocalSample` draws by; None where there is none.
        """
        fold = self.fold
        if not fold.waits(step):
            if step.accepted is not False:
                self.settle()
            self.counted = fold.update(self.counted, step, source)
            return
        if fold.on_step is not None:
            fold.on_step(step)
        if self._waiting and not _have_one_tableau(self._waiting[0], step):
            self.settle()
        kept = self.counted.reservoirs if source is None else fold.keep(self.counted, step, source)
        self.counted = fold.count(self.counted, step)._replace(reservoirs=kept)
        self._waiting.append(step)
        # Now: a term that evaluates the field does so before the solver goes on, and once.
        self._measured.append(fold.measure_now(step))
        self._together = self._together or self._framework.steps_together(step.y1)
        if len(self._waiting) >= self._together:
            self.settle()

    @property
    def carry(self) -> Carry:
        """The carry with all steps; reading it changes nothing, as the loop may go on (`odeint_dense`)."""
        carry = self.counted
        if not self._waiting:
            return carry if self._like is None else carry._replace(totals=self.fold.start(self._like).totals)
        totals = self.fold.add(None if self._like is not None else carry.totals, self._waiting, self._measured)
        return Carry(carry.accepted, carry.rejected, totals, carry.reservoirs)

    def settle(self) -> None:
        """Measures the steps that wait."""
        self.counted = self.carry
        self._waiting, self._measured, self._like = [], [], None

    def measure_less(self, fold: Fold) -> None:
        """Goes on with fewer terms, measured from here on; what was counted stays."""
        if fold.terms != self.fold.terms or fold.kinds != self.fold.kinds:
            self._waiting, self._measured = [], []
            self.counted = Carry(*self.counted[:2], (), (None,) * len(fold.kinds))
            self._like = self._like if fold.terms else None
        self.fold = fold

    def end(self) -> None:
        """Drops the steps: their field holds the solve, which would be a reference cycle."""
        self._waiting, self._measured = [], []
        self.counted, self._like = self.carry._replace(reservoirs=()), None


def _have_one_tableau(first: Step, step: Step) -> bool:
    """Whether two steps can be measured together; all that are have the tableau of the first."""
    tableaus = [None if each.stages is None else each.stages.tableau for each in (first, step)]
    return tableaus[0] is tableaus[1] or tableaus[0] == tableaus[1]
