"""The `LocalSample` terms of one solve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from array_api_compat import array_namespace, device

from .checking import check_step, fixed_times
from .errors import InvalidInputError
from .fold import Fold
from .samples import Draw, Draws, Kept, LocalSample, drawn
from .state import Array, State, like_parts, parts
from .step import Step
from .terms import StepTerm

if TYPE_CHECKING:
    from .adapter import Adapter

Restart = Callable[[Array, State, Array], Step]


class Sampling:
    """What one solve samples. Its adapter says how to take a step from anywhere, and may say where the solve ends.

    Attributes:
        terms: the terms: each is a `LocalSample`, or offers one.
        draws: what it draws by.
        restart: takes one accepted step of the solver from a time and a state to another time, the times being the
            user's, and describes it; with gradient where gradients are recorded.
        reach: likewise where only the state at the end is wanted.
        like: the initial state.
        start: where the extra step starts and ends, (t, y, t + h), where the adapter knows: of a solver whose steps
            nobody sees. Else it is drawn from the accepted steps.
    """

    restart: Restart
    reach: Restart
    start: tuple[Array, State, Array] | None = None

    def __init__(
        self, adapter: Adapter, terms: Sequence[StepTerm], numbers: Callable[[Any, State], Array], like: State | None
    ) -> None:
        self.terms = tuple(terms)
        self.draws = Draws(numbers)
        self._adapter = adapter
        self.like = like

    @property
    def kinds(self) -> tuple[Draw, ...]:
        """The draws that are asked for, each once."""
        return tuple(dict.fromkeys(_sample(term).draw for term in self.terms))

    @property
    def doubles(self) -> bool:
        """Whether `restart` is to take its step in two halves as well, where the solver has no estimate."""
        return any(term.doubles for term in self.terms)

    def measured(self, kind: Draw) -> tuple[StepTerm, ...]:
        """What is measured on the extra step of a draw."""
        return tuple(_sample(term).term for term in self.terms if _sample(term).draw == kind)

    def begin(
        self, restart: Restart, end: Array | None = None, like: State | None = None, *, reach: Restart | None = None
    ) -> None:
        """Says how to take a step from anywhere, when the solve will end, and what its state is like, where known."""
        self.restart = restart
        self.reach = restart if reach is None else reach
        self.draws = self.draws._replace(end=end)
        self.like = self.like if like is None else like

    def end(self) -> None:
        """Says that the solve is over: how its steps are taken, and from where, is kept no longer."""
        self.restart = self.reach = _over
        self.draws = Draws(self.draws.numbers)
        self.start = self.like = None

    def values(self, kept: Sequence[Kept | None], accepted: Any) -> dict[StepTerm, Array]:
        """The value of each term.

        Args:
            kept: of each of `kinds` the step that was drawn, None where no step was accepted.
            accepted: how many were.
        """
        # What a field draws on the extra step is nothing that the program asked for.
        with self._adapter.untouched(self.like):
            values = self._values(kept, accepted)
        spent = getattr(self.draws.numbers, "spent", None)
        if spent is not None:
            spent()
        return values

    def _values(self, kept: Sequence[Kept | None], accepted: Any) -> dict[StepTerm, Array]:
        values: dict[StepTerm, Array] = {}
        for kind, each in zip(self.kinds, kept, strict=True):
            terms = tuple(term for term in self.terms if _sample(term).draw == kind)
            fold = Fold(terms, heard=False, derived=self._adapter.derived, adapter=self._adapter.name)
            carry = fold.start(self.like)
            start = self.start
            if start is None and each is not None:
                start = drawn(each, kind, self.draws, self._reach)
            with self._adapter.recording():
                if start is not None:
                    step = self.restart(*start)
                    check_step(step, self._adapter.name)
                    carry = fold.update(carry, fixed_times(step, self._adapter.constant))
                for term, value in fold.values(carry).items():
                    values[term] = value if self.start is not None else _unless_none(accepted, value)
        return values

    def _reach(self, t0: Array, y0: State, t1: Array) -> State:
        state = self.reach(t0, y0, t1).y1
        return like_parts(state, tuple(map(self._adapter.constant, parts(state))))


def _over(t0: Array, y0: State, t1: Array) -> Step:  # noqa: ARG001  # as a `Restart` is called
    raise InvalidInputError("A step was asked of a solve that is over.")


def _unless_none(accepted: Any, value: Array) -> Array:
    """The value, and zero where no step was accepted, and none could be drawn."""
    xp = array_namespace(value)
    return xp.where(xp.asarray(accepted > 0, device=device(value)), value, xp.zeros_like(value))


def _sample(term: StepTerm) -> LocalSample:
    assert isinstance(term.plain, LocalSample)
    return term.plain
