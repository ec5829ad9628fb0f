"""What is requested of one solve, and what it goes without."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..errors import GradientDisabledError, InvalidInputError, PenaltyRefusedError
from ..steps.arrays import State
from ..terms.step_term import StepTerm
from ..terms.term import NamedTerm
from .divided import Divided
from .extra_step import ExtraStep
from .fold import Fold
from .framework import Framework
from .grid import Grid, empty_grid
from .loop import Loop
from .optional_term import refusals_of
from .replay import Replay
from .request import Request
from .resolution import warn_of_rounding
from .ride import Ride
from .stats import Counts


class Requested(Divided):
    """The terms, the trace and the settings that observers request of a solve; see `Solve`."""

    def __init__(
        self,
        adapter: Framework,
        request: Request,
        loop: Loop,
        extra_step: ExtraStep | None,
        like: State | None,
        replays: bool,
    ) -> None:
        self.adapter = adapter
        self.fold: Fold = loop.fold
        self.extra_step = extra_step
        self.trace_wanted: bool | int = request.trace
        self.by: tuple[str, ...] = request.by
        self.shared: bool = request.shared or bool(request.by)
        self.align: bool = request.align
        self.checkpoint: bool = request.checkpoint
        self.left_out: dict[str, None] = {}
        self.abandoned: bool = False
        self.recomputed: Counts = Counts()
        self.replay: Replay | None = None
        self.replays = replays
        self._like, self._loop = like, loop

    @property
    def terms(self) -> tuple[NamedTerm, ...]:
        """The requested terms: folded, replayed and sampled."""
        return self.full_terms + (() if self.extra_step is None else self.extra_step.terms)

    @property
    def full_terms(self) -> tuple[StepTerm, ...]:
        """The requested terms that are measured on every accepted step, folded and replayed."""
        return self.fold.terms + (() if self.replay is None else self.replay.terms)

    @property
    def measured(self) -> bool:
        """Whether anything beyond counts is requested, so that a `Step` needs all of its attributes."""
        return bool(self.fold.terms or self.fold.kinds or self.trace_wanted)

    @property
    def described(self) -> bool:
        """Whether accepted steps must be given to `step`; otherwise `count` suffices."""
        return bool(self.fold.on_step or self.trace_wanted or self.fold.terms or self.fold.kinds)

    @property
    def shown(self) -> bool:
        """Whether rejected steps must be given to `step`; otherwise `count` suffices."""
        return bool(self.trace_wanted or self.fold.on_step)

    @property
    def measures_stiffness(self) -> bool:
        """Whether the stiffness of the steps is measured, for a term or for the trace."""
        return bool(self.trace_wanted) or any(term.measures_stiffness for term in self.fold.terms)

    def ride(self, like: State, capacity: int | None = None, noted: Grid = ()) -> Ride:
        """What a traced loop lets ride in its carry.

        Args:
            like: the initial state.
            capacity: the most steps that the loop attempts, for the rows of a trace, and for a replay; None where
                there is no bound.
            noted: of an adapter that replays, scalars such as those that it will note of a step.

        Raises:
            InvalidInputError: a trace is requested without a number of rows, and there is no bound.
            StepError: there is a `replay`, and no bound or nothing that is noted.
        """
        self.divide(like)
        rows = capacity if self.trace_wanted is True else self.trace_wanted
        if rows is None:
            self.abandon()
            raise InvalidInputError(
                f"A trace was asked of a solve of {self.adapter.name!r}, whose number of steps is unbounded. Say "
                "how many rows it may have, as in `observe(trace=1000)`."
            )
        grid = () if self.replay is None else empty_grid(self.adapter.name, noted, capacity)
        return Ride(self.fold, like, self.adapter, self.extra_step, int(rows), grid, self.groups)

    def postpone(self) -> None:
        """Leaves the terms with `replay` to `replay`, before the solve starts, because its steps carry no gradient.

        The adapter calls this where it would refuse them, if it declares `Serves(replay=True)`; else it does nothing.
        """
        moved = tuple(term for term in self.fold.terms if term.replay)
        if not (moved and self.replays):
            return
        self.replay = Replay(self.adapter, moved, self._like, self.recomputed)
        self.fold = replace(self.fold, terms=tuple(term for term in self.fold.terms if not term.replay))
        self._loop.measure_less(self.fold)

    def refuse_replay(self, refusal: PenaltyRefusedError) -> None:
        """Refuses the terms with `replay`, before the solve starts, because its steps cannot be taken again.

        Raises:
            PenaltyRefusedError: the given one, unless every such term is optional. Optional terms are left out.
        """
        replay, self.replay = self.replay, None
        if replay is not None:
            self.fold = replace(self.fold, terms=self.fold.terms + replay.terms)
            self.refuse(refusal)

    def refuse(self, refusal: PenaltyRefusedError, *, sampled: bool = False) -> None:
        """Refuses the terms, before the solve starts, because they would carry no gradient.

        Args:
            refusal: why, and what to do.
            sampled: whether those of `LocalSample`, and those to be replayed, would carry none either.

        Raises:
            PenaltyRefusedError: the given one, unless every term is optional. Optional terms are left out.
        """
        if any(not term.optional for term in (self.terms if sampled else self.fold.terms)):
            self.abandon()
            try:
                raise refusal
            finally:
                del refusal  # which holds this frame, and all that called it
        self.leave_out(refusal, sampled=sampled)

    def leave_out(self, refusal: PenaltyRefusedError, *, sampled: bool = True) -> None:
        """Leaves the optional terms out, best before the solve starts; all others stay.

        Args:
            refusal: why, and what to do.
            sampled: whether those of `LocalSample`, and those to be replayed, are left out as well.
        """
        for term in self.terms if sampled else self.fold.terms:
            refusals = refusals_of(term)
            # Gradients that are switched off are no surprise where a model is evaluated.
            if refusals is not None and not isinstance(refusal, GradientDisabledError):
                self.left_out[str(refusal)] = None
                refusals.left_out.expect(str(refusal))
        extra_step = self.extra_step
        if sampled and extra_step is not None:
            extra_step.terms = tuple(term for term in extra_step.terms if not term.optional)
            self.extra_step = extra_step = extra_step if extra_step.terms else None
        if sampled and self.replay is not None:
            self.replay.terms = tuple(term for term in self.replay.terms if not term.optional)
            self.replay = self.replay if self.replay.terms else None
        # An adapter may find out during the solve that it shows no steps.
        terms = tuple(term for term in self.fold.terms if not term.optional)
        self.fold = replace(self.fold, terms=terms, kinds=() if extra_step is None else extra_step.kinds)
        self._loop.measure_less(self.fold)

    def check_tolerances(self, rtol: Any, atol: Any, like: State) -> None:
        """Warns, once in a process, where the tolerances are less than the rounding of a state and a term measures it.

        Args:
            rtol, atol: of the solve. What is no number (an array, a traced value) is not looked at.
            like: a state of the solve.

        Raises:
            RoundingWarning: where the caller has warnings raised.
        """
        try:
            warn_of_rounding(self.adapter.name, replace(self.fold, terms=self.full_terms), rtol, atol, like)
        except Warning:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Marks the solve as failed: it counts for nothing, and its trace has the steps up to there."""
        self.abandoned = True
        self._let_go()

    def _let_go(self) -> None:
        self._loop.end()
        if self.extra_step is not None:
            self.extra_step.end()
        if self.replay is not None:
            self.replay.end()
        self._like = None
