"""The terms of a solve as a fold over its steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from array_api_compat import device

from ..steps.arithmetic import nan_unless
from ..steps.arrays import Array, State, array_namespace, as_array, like_parts, parts, real_dtype
from ..steps.checking import check_step, fixed_times, scalars
from ..steps.entries import does_not_fit
from ..steps.step import Step, guarded, step_sizes
from ..terms.local_sample import Draw
from ..terms.step_term import StepTerm
from ..terms.term import NamedTerm
from .reservoir import RandomSource, Reservoir, keep

Values = dict[StepTerm, Array]
Analytic = Callable[[Sequence[StepTerm], Sequence[Step]], "Sequence[Array] | None"]


class Carry(NamedTuple):
    """What a fold carries from step to step: two counts, a scalar for each term, a reservoir for each draw."""

    accepted: Any
    rejected: Any
    totals: tuple[Array, ...]
    reservoirs: tuple[Reservoir | None, ...] = ()


@dataclass(frozen=True)
class Fold:
    """The terms of a solve as a pure fold over its steps, for a Python loop and for `lax.while_loop` alike.

    It holds no array and hashes by its terms, so it may be a static argument of a compiled function.

    Attributes:
        terms: what is folded.
        on_step: called with every attempted step; None where nobody listens.
        analytic: `Framework.analytic`.
        kinds: the kinds of draws; for each an accepted step is kept in a reservoir.
        constant: `Framework.constant`.
        adapter: the name of the adapter, for what does not fit.
        traced: whether a traced loop calls `update`; every such call is checked.
        batch: how many samples take steps of their own; None for one solve.
    """

    terms: tuple[StepTerm, ...]
    on_step: Callable[[Step], None] | None = None
    analytic: Analytic | None = None
    kinds: tuple[Draw, ...] = ()
    constant: Callable[[Array], Array] | None = None
    adapter: str = ""
    traced: bool = False
    batch: int | None = None

    def start(self, like: State) -> Carry:
        """The carry before the first step, with the real dtype and the device of a state."""
        if not self.terms:
            return Carry(0, 0, (), (None,) * len(self.kinds))
        first = parts(like)[0]
        xp = array_namespace(first)
        zero = xp.zeros((), dtype=real_dtype(first), device=device(first))
        return Carry(0, 0, tuple(term.start(zero) for term in self.terms), (None,) * len(self.kinds))

    @property
    def needs_step_doubling(self) -> bool:
        """Whether each step must be taken in two halves as well, where the solver has no estimate of its own."""
        return any(term.needs_step_doubling for term in self.terms)

    def update(self, carry: Carry, step: Step, source: RandomSource | None = None) -> Carry:
        """The carry after one more attempted step; a rejected one only counts.

        Args:
            carry: so far.
            step: the attempt.
            source: where there are `kinds`. Whether the step was accepted must be known then, or be None.

        Raises:
            StepError: something does not fit, or is missing.
        """
        if self.traced:
            step = self._admitted(carry, step, source)
        if self.on_step is not None:
            self.on_step(step)
        if step.accepted is False:
            return self.count(carry, step)
        totals = self.add(carry.totals, (step,))
        if step.accepted is True or step.accepted is None:
            return Carry(carry.accepted + 1, carry.rejected, totals, self.keep(carry, step, source))
        xp = array_namespace(step.accepted)
        return Carry(
            carry.accepted + xp.where(step.accepted, 1, 0),
            carry.rejected + xp.where(step.accepted, 0, 1),
            tuple(xp.where(step.accepted, new, old) for new, old in zip(totals, carry.totals, strict=True)),
        )

    def waits(self, step: Step) -> bool:
        """Whether a step of a Python loop may be measured later, together with others."""
        return bool(self.terms) and step.accepted is True

    def count(self, carry: Carry, step: Step) -> Carry:
        """The carry with one more attempted step counted, of which it is known whether it was accepted."""
        if step.accepted:
            return carry._replace(accepted=carry.accepted + 1)
        return carry._replace(rejected=carry.rejected + 1)

    def check_carry(self, carry: Carry) -> None:
        """Checks that a carry is one of this fold.

        Raises:
            StepError: it is not.
        """
        if not isinstance(carry, Carry) or (len(carry.totals), len(carry.reservoirs)) != (
            len(self.terms),
            len(self.kinds),
        ):
            found = f"has {carry!r} for a carry" if not isinstance(carry, Carry) else "has the carry of another fold"
            wanted = "thread `fold.start(y0)` through `fold.update`, and give what comes out to `finish`"
            does_not_fit(self.adapter, found, wanted)

    def _admitted(self, carry: Carry, step: Step, source: RandomSource | None) -> Step:
        self.check_carry(carry)
        check_step(step, self.adapter)
        if self.kinds and (source is None or not (step.accepted is None or isinstance(step.accepted, bool))):
            wanted = "hand `extra_step.source` to `fold.update`, with an `accepted` that is known or None"
            does_not_fit(self.adapter, "serves `LocalSample`, and folds a step that cannot be drawn", wanted)
        return step if self.constant is None else fixed_times(step, self.constant)

    def keep(self, carry: Carry, step: Step, source: RandomSource | None) -> tuple[Reservoir | None, ...]:
        """The reservoirs after one more accepted step."""
        if source is None or self.constant is None:
            return carry.reservoirs
        step = replace(step, y0=like_parts(step.y0, tuple(map(self.constant, parts(step.y0)))))
        pairs = zip(carry.reservoirs, self.kinds, strict=True)
        return tuple(keep(kept, kind, step, source, carry.accepted + 1) for kept, kind in pairs)

    def measure_now(self, step: Step) -> Values:
        """The values on a step of the terms whose derivative is left to the framework."""
        rest = [term for term in self.terms if self.analytic is None or not term.has_gradient(step)]
        return _measured(rest, step, self.adapter) if rest else {}

    def add(
        self, totals: tuple[Array, ...] | None, steps: Sequence[Step], measured: Sequence[Values] | None = None
    ) -> tuple[Array, ...]:
        """The totals after one more accepted step, or after several.

        Args:
            totals: so far; None before the first step.
            steps: no more than `Framework.steps_together`.
            measured: the results of `measure_now` for each, where they are known already.
        """
        if not self.terms:
            return ()
        known = [self.measure_now(steps[0])] if measured is None else measured
        values = self._each(steps, _together(known, parts(steps[0].y1)[0]))
        h = step_sizes(steps)
        if totals is None:
            return tuple([term.begin(value, h) for term, value in zip(self.terms, values, strict=True)])
        folded = zip(self.terms, totals, values, strict=True)
        return tuple([term.update(total, value, h) for term, total, value in folded])

    def _each(self, steps: Sequence[Step], measured: Values) -> Sequence[Array]:
        """The value of each term on steps, where some are `measured` already."""
        rest = [term for term in self.terms if term not in measured] if measured else self.terms
        found = self.analytic(rest, steps) if self.analytic is not None and rest else None
        if found is None:
            measured |= _measured(rest, steps[0], self.adapter)
        elif not measured:
            return found
        else:
            measured |= dict(zip(rest, found, strict=True))
        return [measured[term] for term in self.terms]

    def values(self, carry: Carry) -> Mapping[NamedTerm, Array]:
        """The value of each term after the steps folded so far."""
        pairs = zip(self.terms, carry.totals, strict=True)
        return {term: term.value(total, carry.accepted) for term, total in pairs}


def _together(values: Sequence[Values], like: Array) -> Values:
    """Values of m steps, of shape (m,); of one step, scalars. A function may give a number, such as a step size."""
    first, *others = values
    if not others or not first:
        return dict(first)
    xp = array_namespace(like)
    return {term: xp.stack([as_array(each[term], like) for each in values]) for term in first}


def _measured(terms: Sequence[StepTerm], step: Step, adapter: str) -> Values:
    if step.accepted is True:
        return scalars({term: term.measure(step) for term in terms}, step, adapter)
    harmless, finite = guarded(step)
    values = scalars({term: term.measure(harmless) for term in terms}, step, adapter)
    return {term: nan_unless(finite, value) for term, value in values.items()}
