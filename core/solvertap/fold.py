"""The terms of a solve as a fold over its steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from array_api_compat import device

from .checking import check_step, does_not_fit, fixed_times, scalars
from .measures import step_sizes
from .namespaces import array_namespace
from .plugins import plugins
from .safe import nan_unless, real_dtype
from .samples import Draw, Draws, Kept, keep
from .state import Array, State, like_parts, parts
from .step import Step, guarded
from .terms import StepTerm

Values = dict[StepTerm, Array]
Derived = Callable[[Sequence[StepTerm], Sequence[Step]], "Sequence[Array] | None"]


class Carry(NamedTuple):
    """What a fold carries from step to step: two counts, a scalar for each term, a step for each draw."""

    accepted: Any
    rejected: Any
    totals: tuple[Array, ...]
    kept: tuple[Kept | None, ...] = ()


@dataclass(frozen=True)
class Fold:
    """The terms of a solve as a pure fold over its steps, for a Python loop and for `lax.while_loop` alike.

    It holds no array and hashes by its terms, so it may be a static argument of a compiled function.

    Attributes:
        terms: what is folded.
        heard: whether observers hear of the steps: of those of the forward pass, each of them once.
        derived: `Adapter.derived`.
        kinds: of the draws for which an accepted step is kept.
        constant: `Adapter.constant`.
        adapter: the name of the adapter, for what does not fit.
        traced: whether a traced loop is to call `update`, of which every call is looked at.
    """

    terms: tuple[StepTerm, ...]
    heard: bool = True
    derived: Derived | None = None
    kinds: tuple[Draw, ...] = ()
    constant: Callable[[Array], Array] | None = None
    adapter: str = ""
    traced: bool = False

    def start(self, like: State) -> Carry:
        """The carry before the first step, with the real dtype and the device of a state."""
        if not self.terms:
            return Carry(0, 0, (), (None,) * len(self.kinds))
        first = parts(like)[0]
        xp = array_namespace(first)
        zero = xp.zeros((), dtype=real_dtype(first), device=device(first))
        return Carry(0, 0, tuple(term.start(zero) for term in self.terms), (None,) * len(self.kinds))

    @property
    def doubles(self) -> bool:
        """Whether each step is to be taken in two halves as well, where the solver has no estimate of its own."""
        return any(term.doubles for term in self.terms)

    @property
    def heard_of(self) -> bool:
        """Whether anybody listens to the steps."""
        return self.heard and plugins().listens("solvertap_step")

    def hear(self, step: Step) -> None:
        """Tells observers of an attempted step."""
        if self.heard_of:
            plugins().notify("solvertap_step", step=step)

    def update(self, carry: Carry, step: Step, draws: Draws | None = None) -> Carry:
        """The carry after one more attempted step; a rejected one only counts.

        Args:
            carry: so far.
            step: the attempt.
            draws: where there are `kinds`. Whether the step was accepted must be known then, or be None.

        Raises:
            StepError: something does not fit, or is missing.
        """
        if self.traced:
            step = self._admitted(carry, step, draws)
        self.hear(step)
        if step.accepted is False:
            return carry._replace(rejected=carry.rejected + 1)
        totals = self.add(carry.totals, (step,))
        if step.accepted is True or step.accepted is None:
            return Carry(carry.accepted + 1, carry.rejected, totals, self.keep(carry, step, draws))
        xp = array_namespace(step.accepted)
        return Carry(
            carry.accepted + xp.where(step.accepted, 1, 0),
            carry.rejected + xp.where(step.accepted, 0, 1),
            tuple(xp.where(step.accepted, new, old) for new, old in zip(totals, carry.totals, strict=True)),
        )

    def check_carry(self, carry: Carry) -> None:
        """Looks whether a carry is one of this fold.

        Raises:
            StepError: it is not.
        """
        if not isinstance(carry, Carry) or (len(carry.totals), len(carry.kept)) != (len(self.terms), len(self.kinds)):
            found = f"has {carry!r} for a carry" if not isinstance(carry, Carry) else "has the carry of another fold"
            wanted = "thread `fold.start(y0)` through `fold.update`, and give what comes out to `finish`"
            does_not_fit(self.adapter, found, wanted)

    def _admitted(self, carry: Carry, step: Step, draws: Draws | None) -> Step:
        self.check_carry(carry)
        check_step(step, self.adapter)
        if self.kinds and (draws is None or not (step.accepted is None or isinstance(step.accepted, bool))):
            wanted = "hand `sampling.draws` to `fold.update`, with an `accepted` that is known or None"
            does_not_fit(self.adapter, "serves `LocalSample`, and folds a step that cannot be drawn", wanted)
        return step if self.constant is None else fixed_times(step, self.constant)

    def keep(self, carry: Carry, step: Step, draws: Draws | None) -> tuple[Kept | None, ...]:
        """What is kept for each draw after one more accepted step."""
        if draws is None or self.constant is None:
            return carry.kept
        step = replace(step, y0=like_parts(step.y0, tuple(map(self.constant, parts(step.y0)))))
        pairs = zip(carry.kept, self.kinds, strict=True)
        return tuple(keep(kept, kind, step, draws, carry.accepted + 1) for kept, kind in pairs)

    def apart(self, step: Step) -> Values:
        """What is measured on a step by the terms whose derivative is left to the framework."""
        rest = [term for term in self.terms if self.derived is None or not term.has_gradient(step)]
        return _measured(rest, step, self.adapter) if rest else {}

    def add(
        self, totals: tuple[Array, ...] | None, steps: Sequence[Step], apart: Sequence[Values] | None = None
    ) -> tuple[Array, ...]:
        """The totals after one more step that is kept, or after several.

        Args:
            totals: so far; None before the first step.
            steps: no more than `Adapter.steps_together`.
            apart: what `apart` gave of each, if it has been asked already.
        """
        if not self.terms:
            return ()
        values = self._each(steps, _together([self.apart(steps[0])] if apart is None else apart))
        h = step_sizes(steps)
        if totals is None:
            return tuple([term.begin(value, h) for term, value in zip(self.terms, values, strict=True)])
        folded = zip(self.terms, totals, values, strict=True)
        return tuple([term.update(total, value, h) for term, total, value in folded])

    def _each(self, steps: Sequence[Step], apart: Values) -> Sequence[Array]:
        """The value of each term on steps, where those that are measured `apart` are known."""
        told = [term for term in self.terms if term not in apart] if apart else self.terms
        found = self.derived(told, steps) if self.derived is not None and told else None
        if found is None:
            apart |= _measured(told, steps[0], self.adapter)
        elif not apart:
            return found
        else:
            apart |= dict(zip(told, found, strict=True))
        return [apart[term] for term in self.terms]

    def values(self, carry: Carry) -> Mapping[StepTerm, Array]:
        """The value of each term after the steps folded so far."""
        pairs = zip(self.terms, carry.totals, strict=True)
        return {term: term.value(total, carry.accepted) for term, total in pairs}


def _together(values: Sequence[Values]) -> Values:
    """What was measured on several steps, of shape (m,); on one, scalars."""
    first, *others = values
    if not others or not first:
        return dict(first)
    xp = array_namespace(*first.values())
    return {term: xp.stack([each[term] for each in values]) for term in first}


def _measured(terms: Sequence[StepTerm], step: Step, adapter: str) -> Values:
    if step.accepted is True:
        return scalars({term: term.measure(step) for term in terms}, step, adapter)
    harmless, finite = guarded(step)
    values = scalars({term: term.measure(harmless) for term in terms}, step, adapter)
    return {term: nan_unless(finite, value) for term, value in values.items()}
