"""The penalty that a solution carries for `regularize`: its terms, their values, and where the solve is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from ..steps.arrays import Array, State
from ..terms.sums import total
from ..terms.term import NamedTerm
from .left_out import LeftOut
from .request import FORWARD_NAME
from .stats import Stats

Passes = Literal["training", "all"]
Batch = Literal["mean", "sum"]


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


class Regularizer(Protocol):
    """Who adds the penalty: `regularize`, as solves and adapters know it; see there for its attributes."""

    k: int
    passes: Passes
    optimiser: Any
    batch: Batch
    failed: int
    measuring: bool
    left_out: LeftOut

    @property
    def at_work(self) -> bool:
        """Whether it has been started, and not stopped."""
        ...

    @property
    def wants_loss(self) -> bool:
        """Whether it asks for the loss of each training pass."""
        ...

    @property
    def wants_gradients(self) -> bool:
        """Whether it asks for both gradients of the next training pass."""
        ...

    def trained(self, loss: Any, by_loss: Sequence[Any], by_penalty: Sequence[Any]) -> None:
        """Takes a training pass into account; see `regularize`."""
        ...

    def weights(self, terms: Sequence[NamedTerm]) -> list[Any]:
        """The weights of its terms now."""
        ...

    def record(self, record: Record) -> None:
        """Takes one solve into account."""
        ...

    def differentiated(self, place: str) -> None:
        """Notes a solve with a penalty in which gradients are recorded, and its place in the caller's code."""
        ...

    def passed(self, place: str, *, carried: bool) -> None:
        """Notes that a backward pass has come to a solve with a penalty, and whether it carried the penalty."""
        ...

    def passed_backward(self, site: int) -> None:
        """Notes that a compiled program went back through a solve."""
        ...


@dataclass(frozen=True)
class Injection:
    """What an adapter needs to put the gradient of a penalty behind a solution.

    Attributes:
        by: the regularizer whose terms they are.
        adapter, phase: the name of the adapter, and of the phase.
        stats: the counts of the solve.
        terms, values: the terms, and the value of each, a scalar that carries gradient.
        start: the initial state, where the adapter gave it to `open_solve`.
        place: where in the caller's code the solve stands.
        trains: as of `Solve`.
        method: what the adapter calls the method.
        left_out: why the solve goes without a term.
    """

    by: Regularizer
    adapter: str
    phase: str
    stats: Stats
    terms: tuple[NamedTerm, ...]
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
        """Notes that a backward pass has come to the solve, and whether it trains and so carries the penalty."""
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
        if not training:  # XLA has removed what no output depends on
            stats = stats._replace(measuring=0, diffusion_measuring=0)
        record = Record(kind, self.adapter, self.by.k, stats, named, penalty, self.method, self.left_out)
        self.by.record(record)
