"""The budget of a `regularize`: its state, fed by the solves and by the losses that training comes to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..plugins.forking import Lock
from ..plugins.registry import plugins
from ..solves.injection import Record
from ..solves.stats import Stats
from ..terms.term import NamedTerm
from .budget import budget
from .budget_state import BudgetState
from .progress import Progress


class Steering:
    """A budget with its state, which a regularizer keeps.

    Attributes:
        budget: the budget.
        state: what it has found so far.
    """

    def __init__(self, steered: budget) -> None:
        self.budget = steered
        self.state: BudgetState = steered.init()
        self._lock = Lock()
        self._stats = Stats()
        self._pass: tuple[Any, Any, Any] | None = None

    @property
    def measures(self) -> bool:
        """Whether the next update measures the gradients."""
        return bool(self.budget.measures(self.state))

    def pairs(self, _: int) -> tuple[tuple[Any, NamedTerm], ...]:
        """The weighted terms now."""
        return self.budget.at(self.state).pairs()

    def saw(self, record: Record) -> None:
        """Takes a training solve into account."""
        if record.values:
            with self._lock():
                self._stats += record.stats
                self._update()

    def told(self, loss: Any, by_loss: Sequence[Any], by_penalty: Sequence[Any]) -> None:
        """Takes a training pass into account; see `regularize.trained`."""
        with self._lock():
            weight = self.state.weight
            self._pass = loss, by_loss, [None if g is None else g / weight for g in by_penalty]
            self._update()

    def _update(self) -> None:
        # In JAX both come from callbacks of one program, in no order.
        if self._pass is None or not self._stats.solves:
            return
        told, stats = self._pass, self._stats
        self._pass, self._stats = None, Stats()
        self.state = self.budget.updated(self.state, stats, *told)
        plugins().notify("solvertap_budget_updated", state=self.state)


class Steered(Progress):
    """What a `regularize` tells its budget, if it has one."""

    _steering: Steering | None = None

    @property
    def budget_state(self) -> BudgetState | None:
        """What its budget has found so far; None where it has no budget."""
        return None if self._steering is None else self._steering.state

    @property
    def wants_loss(self) -> bool:
        """Whether it has a budget, which asks for the loss of each training pass."""
        return self._steering is not None

    @property
    def wants_gradients(self) -> bool:
        """Whether its budget asks for both gradients of the next training pass."""
        return self._steering is not None and self._steering.measures

    def trained(self, loss: Any, by_loss: Sequence[Any], by_penalty: Sequence[Any]) -> None:
        """Takes a training pass into account.

        Args:
            loss: what it has begun from, a scalar without gradient.
            by_loss, by_penalty: the gradients of the loss, and of the weighted penalty, by the same parameters, or by
                some direction in them; None where there is none. Empty where they were not measured.
        """
        if self._steering is not None:
            self._steering.told(loss, by_loss, by_penalty)
