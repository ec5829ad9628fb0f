"""The terms of a batch of solves, whose samples take steps of their own, as one fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from array_api_compat import device

from ..steps.arrays import Array, State, array_namespace, as_array, like_parts, parts, real_dtype
from ..steps.batch import each_sample, only_taken, per_sample, taken_by
from ..steps.checking import scalars
from ..steps.step import Step, Steps, step_sizes
from ..terms.step_term import StepTerm
from ..terms.term import NamedTerm
from .fold import Carry, Fold, Values
from .framework import Framework
from .optional_term import plain
from .request import Request
from .reservoir import RandomSource, Reservoir, keep

Map = Callable[[Callable[..., Any]], Callable[..., Any]]


@dataclass(frozen=True)
class BatchFold(Fold):
    """A fold whose counts and totals have one entry for each sample of a batch.

    Each sample is folded as if it were solved alone: what it did not take is dropped by `where`, and no NaN of it
    reaches a value or a gradient. The built-in terms measure all samples together. A function of the user's, and a
    fold of the user's, are those of one sample, and mapped over the batch by the framework.

    Attributes:
        mapped, batched: `Framework.mapped` and `Framework.batched`.
    """

    batch: int = 0
    mapped: Map | None = None
    batched: Map | None = None

    def start(self, like: State) -> Carry:
        zero = self._zeros(parts(like)[0])
        totals = tuple(self._own(term, "start")(zero) for term in self.terms)
        return Carry(0, 0, totals, (None,) * len(self.kinds))

    def waits(self, step: Step) -> bool:  # noqa: ARG002  # whichever samples took it
        return bool(self.terms)

    def count(self, carry: Carry, step: Step) -> Carry:
        attempted, taken = per_sample(step.attempted, step, self.batch), taken_by(step, self.batch)
        return carry._replace(accepted=carry.accepted + taken, rejected=carry.rejected + (attempted & ~taken))

    def update(self, carry: Carry, step: Step, source: RandomSource | None = None) -> Carry:
        if self.on_step is not None:
            self.on_step(step)
        totals = self.add(carry.totals, (step,))
        return self.count(carry, step)._replace(totals=totals, reservoirs=self.keep(carry, step, source))

    def keep(self, carry: Carry, step: Step, source: RandomSource | None) -> tuple[Reservoir | None, ...]:
        if source is None or self.constant is None:
            return carry.reservoirs
        taken = taken_by(step, self.batch)
        step = replace(step, y0=like_parts(step.y0, tuple(map(self.constant, parts(step.y0)))))
        pairs = zip(carry.reservoirs, self.kinds, strict=True)
        return tuple(keep(kept, kind, step, source, carry.accepted + 1, taken) for kept, kind in pairs)

    def measure_now(self, step: Step) -> Values:
        """The values, of shape (batch,), of the terms whose derivative is left to the framework."""
        rest = [term for term in self.terms if self.analytic is None or not term.has_gradient(step)]
        return self._measured(rest, step) if rest else {}

    def add(
        self, totals: tuple[Array, ...] | None, steps: Sequence[Step], measured: Sequence[Values] | None = None
    ) -> tuple[Array, ...]:
        if not self.terms:
            return ()
        like = parts(steps[0].y1)[0]
        xp, shape = array_namespace(like), (len(steps), self.batch)
        now = [self.measure_now(step) for step in steps] if measured is None else measured
        values = self._of_steps(steps, {term: xp.stack([each[term] for each in now]) for term in now[0]})
        taken = xp.stack([taken_by(step, self.batch) for step in steps])
        h = xp.where(taken, xp.reshape(step_sizes(steps), shape), xp.ones(shape, dtype=real_dtype(like)))
        if totals is None:
            totals = self.start(like).totals
        folded = zip(self.terms, totals, values, strict=True)
        return tuple([self._folded(term, total, xp.reshape(x, shape), h, taken) for term, total, x in folded])

    def values(self, carry: Carry) -> Mapping[NamedTerm, Array]:
        pairs = zip(self.terms, carry.totals, strict=True)
        return {term: self._own(term, "value")(total, carry.accepted + self._none(total)) for term, total in pairs}

    def _of_steps(self, steps: Sequence[Step], measured: Values) -> list[Array]:
        rest = [term for term in self.terms if term not in measured]
        found = self.analytic(rest, list(map(self._stacked, steps))) if self.analytic is not None and rest else None
        if found is None:
            measured |= self._measured(rest, steps[0]) if rest else {}
        else:
            measured |= dict(zip(rest, found, strict=True))
        return [measured[term] for term in self.terms]

    def _stacked(self, step: Step) -> Steps:
        attempted, accepted = (per_sample(flag, step, self.batch) for flag in (step.attempted, step.accepted))
        return Steps.of(step, attempted=attempted, accepted=accepted)

    def _measured(self, terms: Sequence[StepTerm], step: Step) -> Values:
        assert self.constant is not None
        taken = taken_by(step, self.batch)
        clean = only_taken(step, taken, self.constant)
        values = {term: term.measure(clean) for term in terms if term.stacks}
        alone = [term for term in terms if not term.stacks]
        if alone:
            assert self.mapped is not None
            assert self.batched is not None
            found = each_sample(lambda sample: self._alone(alone, sample), clean, self.mapped, self.batched)
            values |= dict(zip(alone, found, strict=True))
        return scalars(values, step, self.adapter, (self.batch,))

    def _alone(self, terms: Sequence[StepTerm], step: Step) -> tuple[Array, ...]:
        values = scalars({term: term.measure(step) for term in terms}, step, self.adapter)
        return tuple(as_array(value, parts(step.y1)[0]) for value in values.values())

    def _folded(self, term: StepTerm, total: Array, values: Array, h: Array, taken: Array) -> Array:
        """The total after m steps of each sample, of shape (m, batch)."""
        xp = array_namespace(total)
        if type(plain(term)).update is StepTerm.update:  # type: ignore[attr-defined]  # of a `StepTerm`
            neutral = float("-inf") if term.reduce == "max" else 0.0
            return term.update(total, xp.where(taken, values, neutral), h)
        update = self._own(term, "update")
        for value, size, mine in zip(xp.where(taken, values, 0.0), h, taken, strict=True):
            total = xp.where(mine, update(total, value, size), total)
        return total

    def _own(self, term: StepTerm, name: str) -> Callable[..., Array]:
        """A method of the fold of a term: one of the user's is that of one sample."""
        method: Callable[..., Array] = getattr(term, name)
        if getattr(type(plain(term)), name) is getattr(StepTerm, name):
            return method
        assert self.mapped is not None
        return self.mapped(method)

    def _zeros(self, like: Array) -> Array:
        return array_namespace(like).zeros((self.batch,), dtype=real_dtype(like), device=device(like))

    def _none(self, like: Array) -> Array:
        xp = array_namespace(like)
        return xp.zeros((self.batch,), dtype=xp.int64, device=device(like))


def fold_of(
    framework: Framework,
    request: Request,
    on_step: Callable[[Step], None] | None,
    *,
    traced: bool,
    batch: int | None,
) -> Fold:
    """The fold of what is requested of a solve, or of a batch of them."""
    fold = Fold(
        request.folded,
        on_step=on_step,
        analytic=framework.analytic,
        constant=framework.constant,
        adapter=framework.name,
        traced=traced,
    )
    if batch is None:
        return fold
    return BatchFold(**vars(fold) | {"batch": batch, "mapped": framework.mapped, "batched": framework.batched})
