"""A term that a solve may go without: one that `regularize` adds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from array_api_compat import device

from ..errors import PenaltyRefusedError
from ..steps.arrays import Array, array_namespace, parts, real_dtype
from ..steps.gradient import Gradient
from ..steps.step import Step
from ..terms.local_sample import LocalSample
from ..terms.step_term import StepTerm
from ..terms.term import NamedTerm
from .framework import Framework
from .left_out import Refusals


@dataclass(frozen=True, kw_only=True)
class OptionalTerm(StepTerm):
    """A term around another one, which measures zero where that one refuses, and notes why.

    It has to be a term, not a flag of the fold: a refusal is raised by `measure`, which the framework may call.
    """

    term: StepTerm
    refusals: Refusals = field(compare=False, repr=False)

    @property
    def optional(self) -> bool:
        return True

    @property
    def stacks(self) -> bool:  # type: ignore[override]  # of the term inside
        return self.term.stacks

    @property
    def needs_step_doubling(self) -> bool:
        return self.term.needs_step_doubling

    @property
    def measures_stiffness(self) -> bool:
        return self.term.measures_stiffness

    def measure(self, step: Step) -> Array:
        self.refusals.measured = True
        try:
            return self.term.measure(step)
        except PenaltyRefusedError as refusal:
            self.refusals.note(str(refusal))
            first = parts(step.y1)[0]
            return array_namespace(first).zeros(
                first.shape[: step.stack_ndim], dtype=real_dtype(first), device=device(first)
            )

    def known(self, step: Step) -> Array | None:
        return self.term.known(step)

    def has_gradient(self, step: Step) -> bool:
        return self.term.has_gradient(step)

    def rows(self, step: Step) -> tuple[tuple[float, ...], ...]:
        return self.term.rows(step)

    def gradient(self, step: Step, by: Array | float, value: Array) -> Gradient:
        try:
            return self.term.gradient(step, by, value)
        except PenaltyRefusedError:  # as `measure` was
            return Gradient(y1=tuple(0 * x for x in parts(step.y1)))

    def start(self, zero: Array) -> Array:
        return self.term.start(zero)

    def update(self, total: Array, value: Array, h: Array) -> Array:
        return self.term.update(total, value, h)

    def begin(self, value: Array, h: Array) -> Array:
        return self.term.begin(value, h)

    def value(self, total: Array, accepted: Array) -> Array:
        return self.term.value(total, accepted)


def optional(term: NamedTerm, refusals: Refusals) -> NamedTerm:
    """The term as one that a solve may go without; of a sample, what is measured on its step."""
    if isinstance(term, LocalSample):
        return replace(term, term=_optional(term.term, refusals))
    assert isinstance(term, StepTerm)
    return _optional(term, refusals)


def _optional(term: StepTerm, refusals: Refusals) -> OptionalTerm:
    shared = {name: getattr(term, name) for name in ("name", "weigh_by_step", "reduce", "replay")}
    return OptionalTerm(**shared, term=term, refusals=refusals)


def plain(term: NamedTerm) -> NamedTerm:
    """The term itself, where this one is optional."""
    if isinstance(term, LocalSample) and isinstance(term.term, OptionalTerm):
        return replace(term, term=term.term.term)
    return term.term if isinstance(term, OptionalTerm) else term


def refusals_of(term: NamedTerm) -> Refusals | None:
    """Where the refusals of an optional term are noted; None for any other term."""
    inner = term.term if isinstance(term, LocalSample) else term
    return inner.refusals if isinstance(inner, OptionalTerm) else None


def reasons_of(framework: Framework, method: str, terms: Iterable[NamedTerm]) -> list[str]:
    """Why optional terms were refused on steps of a solve by a method."""
    found = [(term, refusals) for term in terms if (refusals := refusals_of(term)) is not None]
    if framework.counts_are_numbers:
        return [reason for _, refusals in found for reason in refusals.reasons]
    name = framework.name
    return [r for term, refusals in found for r in refusals.left_out.of_trace((term, name, method), refusals)]
