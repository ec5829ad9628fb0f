"""One observed solve, from the side of its adapter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..steps.arrays import Array, State
from ..steps.checking import does_not_fit
from ..steps.step import Step
from ..terms.term import NamedTerm
from .counting import Counting
from .extra_step import ExtraStep
from .fold import Carry, Fold
from .framework import Framework
from .injection import Injection, Regularizer
from .loop import Loop
from .optional_term import refusals_of
from .place import place
from .request import FORWARD_NAME, Phase, Request
from .scope import current, scope
from .stats import Stats
from .trace import Trace


class Listeners(NamedTuple):
    """Whom a solve notifies: of each attempted step, and of its counts when it has ended."""

    on_step: Callable[[Step], None] | None = None
    on_finished: Callable[[Stats], None] | None = None


class Solve(Counting):
    """One observed solve. An adapter gets it from `open_solve` and fills it in one of two ways.

    A Python loop calls `step` for every attempted step, then `finish()`. A traced loop threads a `Carry`
    through itself with `fold.start` and `fold.update`, then calls `finish(carry, ...)`.

    Attributes:
        adapter: the adapter that opened it.
        fold: the requested terms; none where only statistics are wanted.
        extra_step: of the `LocalSample` terms, where there are any: the adapter calls its `begin`, or refuses them.
        replay: of the terms that were postponed, where there are any: the adapter calls its `begin`, or refuses them.
        replays: whether its adapter takes steps again, so that a refusal may name `replay=True`.
        trace_wanted: whether a trace is requested; where it is bounded, the number of its rows.
        align: whether the reference steps must be taken.
        checkpoint: whether the backward pass must recompute each step, so that only its states are kept.
        phase: why the framework solves: `phase.name` is "forward", "adjoint" or "recomputation".
        counts: the solver's own evaluations so far; the adapter counts them.
        measuring: the evaluations that terms added. Those during `step`, `finish` and a `counted_as_measuring()` block
            are counted here by themselves; a traced loop sets them.
        recomputed: what a backward pass has evaluated again so far; the adapter counts it.
        method: the name that the library gives the method, such as "dopri5"; the adapter may set it.
        left_out: why the solve goes without an optional term, each reason once.
        closed: whether the steps cannot be seen, so that `stats` has None for them; the adapter sets it.
        abandoned: whether it failed.
        finished: whether the adapter has ended it; one that never does is read as far as it got.
        trains: whether a backward pass through it may be one that trains; an adapter clears it where it cannot.
    """

    def __init__(
        self,
        adapter: Framework,
        request: Request,
        phase: Phase,
        like: State | None = None,
        *,
        regularizer: Regularizer | None = None,
        random_numbers: Callable[[Any, State], Array] | None = None,
        listeners: Listeners = Listeners(),  # noqa: B008  # immutable
        replays: bool = False,
    ) -> None:
        samples = request.samples
        extra_step = None if random_numbers is None else ExtraStep(adapter, samples, random_numbers, like)
        fold = Fold(
            request.folded,
            on_step=listeners.on_step,
            analytic=adapter.analytic,
            kinds=() if extra_step is None else extra_step.kinds,
            constant=adapter.constant,
            adapter=adapter.name,
            traced=like is None,
        )
        super().__init__(adapter, request, Loop(fold, adapter, like), extra_step, like, replays)
        self.phase = phase
        self.method = ""
        self.trains = True
        self._on_finished = listeners.on_finished
        self._regularizer = regularizer
        self._start = None if regularizer is None else like  # for the injection; optional terms may be left out

    def finish(
        self,
        carry: Carry | None = None,
        *,
        accepted: Any | None = None,
        rejected: Any | None = None,
        trace: Trace | None = None,
    ) -> None:
        """Ends the solve. A traced loop gives its carry, and counts that the carry does not have.

        Raises:
            StepError: a traced loop gives none, or one that is not of `fold`, or a Python loop gives one.
        """
        if self.finished or self.abandoned:
            return
        self._check.ending(self.fold, carry)
        self._loop.settle()
        carry = self._loop.counted if carry is None else carry
        self._loop.counted = Carry(
            carry.accepted if accepted is None else accepted,
            carry.rejected if rejected is None else rejected,
            carry.totals,
            carry.reservoirs,
        )
        self._trace = trace
        self._taken_after = self._take_after()
        self.finished = True
        self._check.close()
        self._let_go()
        if self._on_finished is not None:
            self.adapter.on_host(self._on_finished, self.stats)

    def through(self, solution: Any) -> Any:
        """The solution for the caller, with the gradient of the optional terms behind it; after `finish`.

        Args:
            solution: whatever `Framework.inject` takes.

        Raises:
            StepError: the solve has not finished.
        """
        if self._regularizer is None or self.abandoned:
            return solution
        if not self.finished:
            found = "let a solution through before its solve had finished"
            does_not_fit(self.adapter.name, found, "call `through` after `finish`, or behind the block of the solve")
        terms = tuple(term for term in self.terms if term.optional)
        start, self._start = self._start, None
        injection = Injection(
            by=self._regularizer,
            adapter=self.adapter.name,
            phase=self.phase.name,
            stats=self.stats,
            terms=terms,
            values=tuple(self.values[term] for term in terms),
            start=start,
            place=place() if terms else "",
            trains=self.trains,
            method=self.method,
            left_out=tuple(dict.fromkeys((*self.left_out, *self._refused(terms)))),
        )
        return self.adapter.inject(solution, injection)

    def _refused(self, terms: tuple[NamedTerm, ...]) -> list[str]:
        """Why terms were refused on steps of this solve."""
        found = [(term, refusals) for term in terms if (refusals := refusals_of(term)) is not None]
        if self.adapter.counts_are_numbers:
            return [reason for _, refusals in found for reason in refusals.reasons]
        name, method = self.adapter.name, self.method
        return [r for term, refusals in found for r in refusals.left_out.of_trace((term, name, method), refusals)]

    def hold(self, h: Any) -> Any:
        """The step size, without gradient where a term is requested.

        A term holds every step size fixed. A solver that differentiates its step sizes has its bare gradient where
        only counts or a trace are requested; under a term this path is cut.
        """
        return self.adapter.constant(h) if self.fold.terms else h

    def abandon(self) -> None:
        # torch/utils/checkpoint.py ends a recomputation by an exception, where it has all that it needs.
        if self._regularizer is not None and not self.abandoned and self.phase.name == FORWARD_NAME:
            self._regularizer.failed += 1
        super().abandon()

    def __enter__(self) -> Solve:
        self._found = current()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Ends the solve of a loop: finished if it came through, abandoned if it raised or was abandoned inside."""
        scope.set(self._found)  # an interrupt may have left an `unobserved` block inside open
        del self._found  # it holds the observers, which hold this solve
        if kind is not None:
            self.abandon()
        elif not self.abandoned:
            try:
                self.finish()
            except BaseException:
                self.abandon()
                raise
