"""The extra step on which the `LocalSample` terms of one solve are measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from array_api_compat import array_namespace, device

from ..errors import InvalidInputError
from ..steps.arrays import Array, State, like_parts, parts
from ..steps.checking import check_step, fixed_times
from ..steps.step import Step
from ..terms.local_sample import Draw, LocalSample
from ..terms.step_term import StepTerm
from ..terms.term import NamedTerm
from .fold import Fold
from .framework import Framework
from .reservoir import RandomSource, Reservoir, drawn

Restart = Callable[[Array, State, Array], Step]


class ExtraStep:
    """What one solve samples. Its adapter says how to take a step from anywhere, and may say where the solve ends.

    Attributes:
        terms: the requested samples.
        source: what it draws its times by.
        restart: takes one accepted step of the solver from a time and a state to another time, the times being the
            user's, and describes it; with gradient where gradients are recorded.
        reach: the same where only the state at the end is wanted.
        like: the initial state.
        start: (t, y, t + h) of the extra step, where the adapter chooses it because it does not see the steps. By
            default it is drawn from the accepted steps.
    """

    restart: Restart
    reach: Restart
    start: tuple[Array, State, Array] | None = None

    def __init__(
        self,
        framework: Framework,
        terms: Sequence[LocalSample],
        numbers: Callable[[Any, State], Array],
        like: State | None,
        fold: Fold,
    ) -> None:
        self.terms: tuple[LocalSample, ...] = tuple(terms)
        self.source: RandomSource = RandomSource(numbers)
        self._fold = replace(fold, on_step=None, traced=False)
        self._framework = framework
        self.like = like

    @property
    def kinds(self) -> tuple[Draw, ...]:
        """The kinds of draws, each once."""
        return tuple(dict.fromkeys(term.draw for term in self.terms))

    @property
    def needs_step_doubling(self) -> bool:
        """Whether `restart` must take its step in two halves as well, where the solver has no estimate."""
        return any(term.needs_step_doubling for term in self.terms)

    def measured(self, kind: Draw) -> tuple[StepTerm, ...]:
        """What is measured on the extra step of a draw."""
        return tuple(dict.fromkeys(sample.term for sample in self.terms if sample.draw == kind))

    def begin(
        self, restart: Restart, end: Array | None = None, like: State | None = None, *, reach: Restart | None = None
    ) -> None:
        """Says how to take a step from anywhere, when the solve will end, and what its state is like, where known."""
        self.restart = restart
        self.reach = restart if reach is None else reach
        self.source = self.source._replace(end=end)
        self.like = self.like if like is None else like

    def end(self) -> None:
        """The solve is over: drops how its steps are taken, and from where."""
        self.restart = self.reach = _over
        self.source = RandomSource(self.source.numbers)
        self.start = self.like = None

    def values(self, reservoirs: Sequence[Reservoir | None], accepted: Any) -> dict[NamedTerm, Array]:
        """The value of each term.

        Args:
            reservoirs: for each of `kinds` the step that was drawn, None where no step was accepted.
            accepted: how many were.
        """
        # The random numbers that a field draws on the extra step must not change those of the program.
        with self._framework.untouched(self.like):
            values = self._values(reservoirs, accepted)
        spent = getattr(self.source.numbers, "spent", None)
        if spent is not None:
            spent()
        return values

    def _values(self, reservoirs: Sequence[Reservoir | None], accepted: Any) -> dict[NamedTerm, Array]:
        values: dict[NamedTerm, Array] = {}
        for kind, kept in zip(self.kinds, reservoirs, strict=True):
            fold = replace(self._fold, terms=self.measured(kind))
            carry = fold.start(self.like)
            start = self.start
            if start is None and kept is not None:
                start = drawn(kept, kind, self.source, self._reach)
            with self._framework.recording():
                if start is not None:
                    step = self.restart(*start)
                    check_step(step, self._framework.name, batch=fold.batch)
                    carry = fold.update(carry, fixed_times(step, self._framework.constant))
                measured = fold.values(carry)
                for sample in self.terms:
                    if sample.draw == kind:
                        value = measured[sample.term]
                        values[sample] = value if self.start is not None else _unless_none(accepted, value)
        return values

    def _reach(self, t0: Array, y0: State, t1: Array) -> State:
        state = self.reach(t0, y0, t1).y1
        return like_parts(state, tuple(map(self._framework.constant, parts(state))))


def _over(t0: Array, y0: State, t1: Array) -> Step:  # noqa: ARG001  # as a `Restart` is called
    raise InvalidInputError("An extra step was taken after the end of its solve; take it before `finish()`.")


def _unless_none(accepted: Any, value: Array) -> Array:
    """The value; zero where no step was accepted, so that none could be drawn."""
    xp = array_namespace(value)
    return xp.where(xp.asarray(accepted > 0, device=device(value)), value, xp.zeros_like(value))
