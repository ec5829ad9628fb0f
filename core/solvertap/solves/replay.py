"""The replay of a solve: its accepted steps, taken once more with gradient, because they carried none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ..steps.arrays import Array, State
from ..steps.checking import check_step, fixed_times
from ..steps.entries import does_not_fit
from ..steps.step import Step
from ..terms.step_term import StepTerm
from ..terms.term import NamedTerm
from .fold import Carry, Fold
from .framework import Framework, ReplayCarry
from .stats import Counts

Advance = Callable[..., tuple[Step, Any]]


class Replay:
    """What one solve replays: the terms with `replay` of a solve whose steps carry no gradient.

    Its adapter calls `begin` before the first step, and `note` for each accepted one. When the solve is over, the noted
    steps are taken again, from the same start, so that their gradient reaches the field and the start.

    Attributes:
        terms: what is measured on the replayed steps.
        grid: the accepted steps. A Python loop notes one after another; a traced loop sets what its
            `Framework.replayed` takes.
        counts: what the replay evaluates: `advance` counts it here, in a Python loop.
    """

    def __init__(self, framework: Framework, terms: Sequence[StepTerm], like: State | None, recomputed: Counts) -> None:
        self.terms: tuple[StepTerm, ...] = tuple(terms)
        self.grid: Any = []
        self.counts: Counts = Counts()
        self._framework = framework
        self._like = like
        self._recomputed = recomputed
        self._begun: tuple[Advance, Any] | None = None

    @property
    def needs_step_doubling(self) -> bool:
        """Whether `advance` must take its step in two halves as well, where the solver has no estimate."""
        return any(term.needs_step_doubling for term in self.terms)

    def begin(self, advance: Advance, start: Any, like: State | None = None) -> None:
        """Says how to take an accepted step again, and from where.

        Args:
            advance: called with the noted values of each step behind what the last call returned, `start` at first:
                `advance(kept, *noted)` describes the step as a `Step`, with gradient to whatever `kept` and the field
                depend on, and returns it with what the solver keeps for the next one. A graph holds it: it must hold
                neither the solve nor anything with gradient but what the field itself holds.
            start: what the solver begins with: its state, with gradient, and whatever else it carries from step to
                step, such as the slope of a first-same-as-last method. In torch a tuple of tensors, in JAX a pytree.
            like: the initial state, where `open_solve` was not told.
        """
        self._begun = advance, start
        self._like = self._like if like is None else like

    def note(self, *values: Any) -> None:
        """Notes one accepted step of a Python loop, by values without gradient from which `advance` takes it again."""
        self.grid.append(values)

    def end(self) -> None:
        """The solve is over: drops how its steps are taken, and from where."""
        self._begun = self._like = None
        self.grid = []

    def values(self, accepted: Any) -> dict[NamedTerm, Array]:
        """The value of each term.

        Args:
            accepted: how many steps were.

        Raises:
            StepError: the adapter has not begun the replay, or has not noted every step.
        """
        name = self._framework.name
        if self._begun is None or self._like is None:
            found = "declares that it replays, and did not say how"
            does_not_fit(name, found, "call `solve.replay.begin` before the first step, or refuse the terms")
        if isinstance(self.grid, list) and len(self.grid) != accepted:
            found = f"noted {len(self.grid)} of {accepted} accepted steps"
            does_not_fit(name, found, "call `solve.replay.note` for each, or refuse the terms")
        advance, start = self._begun
        fold = Fold(self.terms, analytic=self._framework.analytic, constant=self._framework.constant, adapter=name)
        take = partial(_take, fold, advance)
        again = partial(_counted_as, self._recomputed, self.counts, take)
        # The random numbers that a field draws in the replay must not change those of the program.
        with self._framework.untouched(self._like), self._framework.recording():
            totals, _ = self._framework.replayed(take, again, (fold.start(self._like).totals, start), self.grid)
            return dict(fold.values(Carry(accepted, 0, totals)))


def _take(fold: Fold, advance: Advance, carried: ReplayCarry, *noted: Any) -> ReplayCarry:
    """The totals, and what the solver keeps, after one more step."""
    totals, kept = carried
    step, kept = advance(kept, *noted)
    check_step(step, fold.adapter)
    assert fold.constant is not None
    step = fixed_times(replace(step, accepted=True), fold.constant)
    return fold.add(totals, (step,)), kept


def _counted_as(other: Counts, counts: Counts, take: Callable[..., ReplayCarry], *inputs: Any) -> ReplayCarry:
    before = counts.evaluations, counts.diffusion_evaluations
    try:
        return take(*inputs)
    finally:
        counts.move(other, *before)
