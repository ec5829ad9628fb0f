"""What `regularize` and a solve hand to each other: the terms it may add, the way out of the solution, a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from array_api_compat import array_namespace, device

from .around_term import AroundTerm
from .errors import PenaltyRefusedError
from .gradients import Gradient
from .left_out import Refusals
from .phases import FORWARD_NAME
from .safe import real_dtype
from .state import Array, State, parts
from .statistics import Stats
from .step import Step
from .terms import StepTerm, total

if TYPE_CHECKING:
    from .regularization import regularize


@dataclass(frozen=True, kw_only=True)
class Offered(AroundTerm):
    """A term that a solve may go without: what it measures where it would be refused is zero."""

    offered: ClassVar[bool] = True

    term: StepTerm
    by: regularize = field(compare=False, repr=False)
    refusals: Refusals = field(compare=False, repr=False, default_factory=Refusals)

    @property
    def sampled(self) -> bool:
        return self.term.sampled

    @property
    def plain(self) -> StepTerm:
        return self.term

    def measure(self, step: Step) -> Array:
        self.refusals.measured = True
        try:
            return self.term.measure(step)
        except PenaltyRefusedError as refusal:
            self.refusals.reasons[str(refusal)] = None
            self.by.left_out.expect(str(refusal))
            first = parts(step.y1)[0]
            return array_namespace(first).zeros((), dtype=real_dtype(first), device=device(first))

    def has_gradient(self, step: Step) -> bool:
        return self.term.has_gradient(step)

    def gradient(self, step: Step, by: Array | float, value: Array) -> Gradient:
        try:
            return self.term.gradient(step, by, value)
        except PenaltyRefusedError:  # as `measure` was
            return Gradient(y1=tuple(0 * x for x in parts(step.y1)))


@dataclass(frozen=True)
class Passage:
    """What an adapter needs to let a solution through with a gradient behind it.

    Attributes:
        by: who offers the terms.
        adapter, phase: the name of the adapter, and of the phase.
        stats: the counts of the solve.
        terms, values: the terms, and the value of each, a scalar that carries gradient.
        start: the initial state, where the adapter gave it to `open_solve`.
        place: where in the caller's code it stands.
        trains: as of `Solve`.
        method: what the adapter calls the method.
        left_out: why the solve goes without a term.
    """

    by: regularize
    adapter: str
    phase: str
    stats: Stats
    terms: tuple[Offered, ...]
    values: tuple[Array, ...]
    start: State | None = None
    place: str = ""
    trains: bool = True
    method: str = ""
    left_out: tuple[str, ...] = ()

    def weights(self) -> list[Any]:
        """The weights of the terms at this step."""
        return self.by.weights(self.terms)

    def carried(self, *, trains: bool = True) -> None:
        """Says that a backward pass has come to the solve, and whether it trains and so carries the penalty."""
        self.by.passed(self.place, carried=trains)

    def record(self, training: bool, stats: Stats, values: Sequence[Array]) -> None:
        """Records the solve.

        Args:
            training: whether gradients are recorded in it.
            stats, values: its counts, and the values of its terms, none where it is not `training`: numbers in the
                place of what may be traced.
        """
        kind = ("training" if training else "evaluation") if self.phase == FORWARD_NAME else self.phase
        named = {term.name: value for term, value in zip(self.terms, values, strict=True)} if values else {}
        penalty = total(w * x for w, x in zip(self.weights(), values, strict=True)) if values else None
        if values:
            self.by.differentiated(self.place)
        if not training:  # XLA has left out what nobody asks for
            stats = stats._replace(measuring=0, diffusion_measuring=0)
        record = Record(kind, self.adapter, self.by.k, stats, named, penalty, self.method, self.left_out)
        self.by.record(record)


class Record(NamedTuple):
    """One solve, or one that was mapped over a batch, as `regularize` saw it.

    Attributes:
        kind: "training" where gradients were recorded, "evaluation" where none were, or the phase of a backward
            pass, "adjoint" or "recomputation".
        adapter: the name of the adapter.
        k: the optimiser steps before it.
        stats: its counts.
        values: of each term that was added, the unweighted value by name: scalars of the solve's own framework.
        penalty: their weighted sum; None where nothing was added.
        method: what the adapter calls the method; empty where it does not say.
        left_out: why it went without a term, each reason once.
    """

    kind: str
    adapter: str
    k: int
    stats: Stats
    values: Mapping[str, Array]
    penalty: Array | None
    method: str = ""
    left_out: tuple[str, ...] = ()
