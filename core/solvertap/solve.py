"""One observed solve, from the side of its adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .adapter import Adapter
from .checking import does_not_fit, fixed_times, scalars
from .door import Door
from .errors import GradientDisabledError, PenaltyRefusedError
from .fold import Carry, Fold, Values
from .offered import Offered, Passage
from .phases import FORWARD_NAME, Asked, Phase, current, scope
from .place import place
from .plugins import plugins
from .resolution import warn_of_rounding
from .sampling import Sampling
from .state import Array, State
from .statistics import Replayed, Stats
from .step import Step
from .terms import StepTerm
from .trace import Trace, TraceRow, trace_row

if TYPE_CHECKING:
    from .regularization import regularize


class Solve:
    """One observed solve. An adapter gets it from `open_solve` and fills it in one of two ways.

    A Python loop calls `step` for every attempted step, then `finish()`. A traced loop threads a `Carry`
    through itself with `fold.start` and `fold.update`, then calls `finish(carry, ...)`.

    Attributes:
        adapter: the adapter that opened it.
        fold: the terms that some observation asks for; empty where only statistics are wanted.
        trace_wanted: whether some observation asks for the trace; where that is bounded, how many rows it may have.
        align: whether the reference steps are to be taken.
        checkpoint: whether each step is to be taken once more in the backward pass, which then keeps its states alone.
        phase: why the framework solves: `phase.name` is "forward", "adjoint" or "recomputation".
        evaluations: evaluations of the field so far; the adapter counts them.
        diffusion_evaluations: likewise for the diffusion of an SDE.
        measuring, diffusion_measuring: what terms added to them. What the field is asked for in `step`, in `finish` and
            in a `counted_apart()` goes here by itself; a traced loop sets them.
        method: what the solver's library calls the method, such as "dopri5"; the adapter may say.
        left_out: why the solve goes without something that `regularize` offers, each reason once.
        closed: whether nobody sees the steps, so that `stats` does not know them; the adapter says so.
        replayed: what was taken once more so far; the adapter counts it.
        trains: whether a backward pass through it may be one that trains; an adapter says where it cannot.
        sampling: the `LocalSample` terms, where there are any: the adapter calls its `begin`, or refuses them.
    """

    def __init__(
        self,
        adapter: Adapter,
        asked: Asked,
        phase: Phase,
        like: State | None = None,
        regularizer: regularize | None = None,
        random_numbers: Callable[[Any, State], Array] | None = None,
    ) -> None:
        self.adapter = adapter
        self._door = Door(adapter.name, like)
        samples = asked.samples
        self.sampling = Sampling(adapter, samples, random_numbers, like) if random_numbers is not None else None
        self.fold = Fold(
            tuple(term for term in asked.terms if term not in samples),
            heard=phase.name == FORWARD_NAME,
            derived=adapter.derived,
            kinds=self.sampling.kinds if self.sampling is not None else (),
            constant=adapter.constant,
            adapter=adapter.name,
            traced=like is None,
        )
        self._heard = self.fold.heard_of  # whoever listens from the next solve on, hears of that
        self.trace_wanted = asked.trace
        self.align = asked.align
        self.checkpoint = asked.checkpoint
        self.phase = phase
        self.closed = False
        self.evaluations: Any = 0
        self.diffusion_evaluations: Any = 0
        self.measuring: Any = 0
        self.diffusion_measuring: Any = 0
        self.method = ""
        self.left_out: dict[str, None] = {}
        self.replayed = Replayed()
        self.abandoned = False
        self.trains = True
        self._regularizer = regularizer
        self._start = None if regularizer is None else like  # for the way out; what is offered may be left out
        self._like = like if self.fold.terms else None  # until there are totals
        self._carry = Carry(0, 0, (), (None,) * len(self.fold.kinds))
        self._sampled: dict[StepTerm, Array] = {}
        self._waiting: list[Step] = []
        self._apart: list[Values] = []
        self._together = 0
        self._rows: list[TraceRow] = []
        self._trace: Trace | None = None
        self._finished = False

    @property
    def terms(self) -> tuple[StepTerm, ...]:
        """The terms that some observation asks for, folded and sampled."""
        return self.fold.terms + (() if self.sampling is None else self.sampling.terms)

    @property
    def measured(self) -> bool:
        """Whether anything beyond counts is asked for, so that a step has to be described in full."""
        return bool(self.fold.terms or self.fold.kinds or self.trace_wanted)

    @property
    def finished(self) -> bool:
        """Whether the adapter has said that it ended. One that never does is read as far as it got."""
        return self._finished

    @property
    def described(self) -> bool:
        """Whether anybody wants to know more of a step than whether it was accepted."""
        return bool(self._heard or self.trace_wanted or self.fold.terms or self.fold.kinds)

    @property
    def shown(self) -> bool:
        """Whether anybody wants to know more of a step that was rejected."""
        return bool(self.trace_wanted or self._heard)

    def count(self, accepted: bool) -> None:
        """Counts one attempted step of a Python loop, where steps need not be `described`."""
        if self._door.watched:
            self._door.counted(bool(self.trace_wanted) or (accepted and self.measured), self.measured)
        carry = self._carry
        counts = (carry.accepted + 1, carry.rejected) if accepted else (carry.accepted, carry.rejected + 1)
        self._carry = Carry(*counts, carry.totals, carry.kept)

    def step(self, step: Step) -> None:
        """Takes one attempted step of a Python loop into account.

        Raises:
            StepError: the solve has ended; or the step, the first one, does not fit.
        """
        if self.abandoned:  # the loop goes on
            return
        if self._door.watched:
            self._door.handed(step, self.fold)
        step = fixed_times(step, self.adapter.constant)
        before = self.evaluations, self.diffusion_evaluations
        draws = None if self.sampling is None else self.sampling.draws
        if step.accepted is True and self.fold.terms:
            if self._heard:
                self.fold.hear(step)
            carry = self._carry
            kept = carry.kept if draws is None else self.fold.keep(carry, step, draws)
            self._carry = Carry(carry.accepted + 1, carry.rejected, carry.totals, kept)
            self._waiting.append(step)
            # Now: a term that evaluates the field does so before the solver goes on, and once.
            self._apart.append(self.fold.apart(step))
            self._together = self._together or self.adapter.steps_together(step.y1)
            if len(self._waiting) >= self._together:
                self._add_waiting()
        else:
            if step.accepted is not False:
                self._add_waiting()
            self._carry = self.fold.update(self._carry, step, draws)
        if self.trace_wanted:
            self._rows.append(row := trace_row(step, self.adapter.constant))
            scalars({"local_error": row.local_error}, step, self.adapter.name)
        self._count_apart(*before)

    @contextmanager
    def counted_apart(self) -> Iterator[None]:
        """A block in which a Python loop evaluates the field for the terms alone."""
        before = self.evaluations, self.diffusion_evaluations
        yield
        self._count_apart(*before)

    def _count_apart(self, evaluations: Any, diffusion_evaluations: Any) -> None:
        """Counts as measuring what the field was asked for since it had been asked so often."""
        if self.evaluations is not evaluations:  # not `!=`: those of a traced loop have no truth
            self.measuring += self.evaluations - evaluations
            self.evaluations = evaluations
        if self.diffusion_evaluations is not diffusion_evaluations:
            self.diffusion_measuring += self.diffusion_evaluations - diffusion_evaluations
            self.diffusion_evaluations = diffusion_evaluations

    def finish(
        self,
        carry: Carry | None = None,
        *,
        accepted: Any | None = None,
        rejected: Any | None = None,
        trace: Trace | None = None,
    ) -> None:
        """Says that the solve has ended. A traced loop gives its carry, and counts that the carry cannot know.

        Raises:
            StepError: a traced loop gives none, or one that is not of `fold`, or a Python loop gives one.
        """
        if self._finished or self.abandoned:
            return
        self._door.ending(self.fold, carry)
        self._add_waiting()
        carry = self._carry if carry is None else carry
        self._carry = Carry(
            carry.accepted if accepted is None else accepted,
            carry.rejected if rejected is None else rejected,
            carry.totals,
            carry.kept,
        )
        self._trace = trace
        self._sampled = self._sample()
        self._finished = True
        self._door.close()
        self._let_go()
        if plugins().listens("solvertap_solve_finished"):
            name, phase = self.adapter.name, self.phase.name  # what JAX compiles must not hold this solve
            self.adapter.on_host(
                lambda stats: plugins().notify("solvertap_solve_finished", adapter=name, stats=stats, phase=phase),
                self.stats,
            )

    def refuse(self, refusal: PenaltyRefusedError, *, sampled: bool = False) -> None:
        """Says, before the solve starts, that terms would carry no gradient in it.

        Args:
            refusal: why, and what to do.
            sampled: whether those of `LocalSample` would carry none either.

        Raises:
            PenaltyRefusedError: the given one, where somebody insists on a term. What `regularize` offers is left out.
        """
        refused = self.terms if sampled else self.fold.terms
        if any(not isinstance(term, Offered) for term in refused):
            self.abandon()
            try:
                raise refusal
            finally:
                del refusal  # which holds this frame, and all that called it
        self.leave_out(refusal, sampled=sampled)

    def leave_out(self, refusal: PenaltyRefusedError, *, sampled: bool = True) -> None:
        """Says that the solve goes without what `regularize` offers, best before it starts; what is insisted on stays.

        Args:
            refusal: why, and what to do.
            sampled: whether without what is sampled as well.
        """
        for term in self.terms if sampled else self.fold.terms:
            # Gradients that are switched off are no surprise where a model is evaluated.
            if isinstance(term, Offered) and not isinstance(refusal, GradientDisabledError):
                self.left_out[str(refusal)] = None
                term.by.left_out.expect(str(refusal))
        if sampled and self.sampling is not None:
            self.sampling.terms = _insisted(self.sampling.terms)
            self.sampling = self.sampling if self.sampling.terms else None
        kinds = () if self.sampling is None else self.sampling.kinds
        self.fold = replace(self.fold, terms=_insisted(self.fold.terms), kinds=kinds)
        # That a solve shows no steps after all may be learned while it goes on: what was counted stays.
        self._waiting, self._apart = [], []
        self._carry = Carry(*self._carry[:2], (), (None,) * len(kinds))
        self._like = self._like if self.fold.terms else None

    def check_tolerances(self, rtol: Any, atol: Any, like: State) -> None:
        """Warns, once in a process, where the tolerances are less than the rounding of a state and a term measures it.

        Args:
            rtol, atol: of the solve. What is no number (an array, a traced value) is not looked at.
            like: a state of the solve.

        Raises:
            RoundingWarning: where the caller has warnings raised.
        """
        try:
            warn_of_rounding(self.adapter.name, self.fold, rtol, atol, like)
        except Warning:
            self.abandon()
            raise

    def through(self, solution: Any) -> Any:
        """The solution for its caller, with the gradient of what `regularize` offers behind it; after `finish`.

        Args:
            solution: whatever `Adapter.inject` takes.

        Raises:
            StepError: the solve has not finished.
        """
        if self._regularizer is None or self.abandoned:
            return solution
        if not self._finished:
            found = "let a solution through before its solve had finished"
            does_not_fit(self.adapter.name, found, "call `through` after `finish`, or behind the block of the solve")
        offered = tuple(term for term in self.terms if isinstance(term, Offered))
        values = tuple(self.values[term] for term in offered)
        start, self._start = self._start, None
        passage = Passage(
            by=self._regularizer,
            adapter=self.adapter.name,
            phase=self.phase.name,
            stats=self.stats,
            terms=offered,
            values=values,
            start=start,
            place=place() if offered else "",
            trains=self.trains,
            method=self.method,
            left_out=tuple(dict.fromkeys((*self.left_out, *self._refused(offered)))),
        )
        return self.adapter.inject(solution, passage)

    def abandon(self) -> None:
        """Says that the solve has failed: it counts for nothing, and its trace has the steps up to there."""
        # torch/utils/checkpoint.py ends a recomputation by an exception, where it has all that it needs.
        if self._regularizer is not None and not self.abandoned and self.phase.name == FORWARD_NAME:
            self._regularizer.failed += 1
        self.abandoned = True
        self._let_go()

    def __enter__(self) -> Solve:
        self._found = current()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Ends the solve of a loop: finished if it came through, abandoned if it raised or was abandoned inside."""
        scope.set(self._found)  # an interrupt may have left an `unobserved` block inside open
        del self._found  # it holds who observes, who hold this solve
        if kind is not None:
            self.abandon()
        elif not self.abandoned:
            try:
                self.finish()
            except BaseException:
                self.abandon()
                raise

    @property
    def values(self) -> Mapping[StepTerm, Array]:
        """The value of each term so far.

        Raises:
            StepError: a traced loop has not given its carry.
        """
        if not self._finished and self.fold.traced:
            self._door.ending(self.fold, None)
        sampled = self._sampled if self._finished or self.abandoned else self._sample()
        return {**self.fold.values(self._settled()), **sampled}

    @property
    def stats(self) -> Stats:
        """The counts of this solve."""
        accepted, rejected = (None, None) if self.closed else self._carry[:2]
        own = self.evaluations, self.diffusion_evaluations
        return Stats(1, accepted, rejected, *own, self.measuring, self.diffusion_measuring)

    @property
    def numbers(self) -> tuple[Any, ...]:
        """Whatever was counted and summed."""
        return (*self._carry[:2], *self._settled().totals, *self._sampled.values())

    @property
    def attempted(self) -> bool:
        """Whether there is any step in its trace."""
        return self._trace is not None or bool(self._rows)

    @property
    def trace(self) -> Trace:
        """The trace of this solve, where one was asked for."""
        if self._trace is not None:
            return self._trace
        return Trace.of_rows(self._rows, self.adapter.to_numpy)

    def _refused(self, offered: tuple[Offered, ...]) -> list[str]:
        """Why terms were refused step by step."""
        if self.adapter.counts_are_numbers:
            return [reason for term in offered for reason in term.refusals.reasons]
        keys = [(term, self.adapter.name, self.method) for term in offered]
        return [r for key in keys for r in key[0].by.left_out.of_trace(key, key[0].refusals)]

    def _sample(self) -> dict[StepTerm, Array]:
        if self.sampling is None:
            return {}
        with self.counted_apart():
            return self.sampling.values(self._carry.kept, self._carry.accepted)

    def _settled(self) -> Carry:
        # A solve that nobody finishes (torchdiffeq's `odeint_dense`) may be read, and go on.
        carry = self._carry
        if not self._waiting:
            return carry if self._like is None else carry._replace(totals=self.fold.start(self._like).totals)
        totals = self.fold.add(None if self._like is not None else carry.totals, self._waiting, self._apart)
        return Carry(carry.accepted, carry.rejected, totals, carry.kept)

    def _add_waiting(self) -> None:
        self._carry = self._settled()
        self._waiting, self._apart, self._like = [], [], None

    def _let_go(self) -> None:
        # Steps and sampling hold the adapter's field, which holds this solve: a circle, once nobody works with it.
        self._waiting, self._apart = [], []
        self._carry, self._like = self._settled()._replace(kept=()), None
        if self.sampling is not None:
            self.sampling.end()


def _insisted(terms: tuple[StepTerm, ...]) -> tuple[StepTerm, ...]:
    return tuple(term for term in terms if not isinstance(term, Offered))
