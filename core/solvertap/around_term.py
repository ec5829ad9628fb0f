"""Terms around other terms: what a term is offered or sampled as."""

from __future__ import annotations

from .gradients import Gradient
from .state import Array
from .step import Step
from .terms import StepTerm


class AroundTerm(StepTerm):
    """A term around another one, `term`, which measures and folds as that does."""

    term: StepTerm

    @property
    def doubles(self) -> bool:
        return self.term.doubles

    def measure(self, step: Step) -> Array:
        return self.term.measure(step)

    def known(self, step: Step) -> Array | None:
        return self.term.known(step)

    def has_gradient(self, step: Step) -> bool:
        return self.term.has_gradient(step)

    def rows(self, step: Step) -> tuple[tuple[float, ...], ...]:
        return self.term.rows(step)

    def gradient(self, step: Step, by: Array | float, value: Array) -> Gradient:
        return self.term.gradient(step, by, value)

    def start(self, zero: Array) -> Array:
        return self.term.start(zero)

    def update(self, total: Array, value: Array, h: Array) -> Array:
        return self.term.update(total, value, h)

    def begin(self, value: Array, h: Array) -> Array:
        return self.term.begin(value, h)

    def value(self, total: Array, accepted: Array) -> Array:
        return self.term.value(total, accepted)
