"""What the loggers have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from ..observing.budget_state import BudgetState
from ..plugins.forking import Lock
from ..plugins.hookspecs import hookimpl
from ..plugins.registry import plugins
from ..solves.request import FORWARD_NAME
from ..solves.stats import Stats

_OF_BUDGET = ("weight", "ratio", "level")


class Solved(NamedTuple):
    """The counts of one solve; see `Stats`.

    Attributes:
        solve: the number of solves of the forward pass before it.
        adapter, phase: as the hook `solvertap_solve_finished` has them.
    """

    solve: int
    adapter: str
    phase: str
    accepted: int | None
    rejected: int | None
    evaluations: int | None
    diffusion_evaluations: int | None
    measuring: int | None = 0
    diffusion_measuring: int | None = 0

    def scalars(self) -> dict[str, int]:
        """The known counts by their names in a logger, such as `solvertap/forward/evaluations`."""
        known = {name: value for name, value in self._asdict().items() if name in Stats._fields and value is not None}
        return {f"solvertap/{self.phase}/{name}": value for name, value in known.items()}


class Log(ABC):
    """A block that logs every observed solve, on any thread; in JAX, when the compiled program has run.

    Solves are observed inside `observe` or `regularize`; `regularize()` observes them all.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._solves = 0

    @abstractmethod
    def write(self, solved: Solved) -> None:
        """Writes one solve."""

    def write_budget(self, scalars: dict[str, float]) -> None:  # noqa: B027  # a table of solves has no place for it
        """Writes what a budget has found: its weight, the ratio of the gradients, and the level it steers.

        Args:
            scalars: by their names in a logger, such as `solvertap/budget/weight`; see `BudgetState`.
        """

    def close(self) -> None:  # noqa: B027  # most have nothing to close
        """Closes what `write` writes to."""

    @hookimpl
    def solvertap_solve_finished(self, adapter: str, stats: Stats, phase: str) -> None:
        """Writes a solve that has ended."""
        with self._lock():
            self.write(Solved(self._solves, adapter, phase, *stats[1:]))
            self._solves += phase == FORWARD_NAME

    @hookimpl
    def solvertap_budget_updated(self, state: BudgetState) -> None:
        """Writes what a budget has found in the step that ends."""
        with self._lock():
            self.write_budget({f"solvertap/budget/{name}": float(getattr(state, name)) for name in _OF_BUDGET})

    def __enter__(self) -> Any:
        found = plugins()
        entered = found.manager.is_registered(self)
        try:
            found.register(self)
        except BaseException:  # an interrupt after it, or the log was entered before
            if not entered:
                found.unregister(self)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            plugins().unregister(self)
        except BaseException:  # an interrupt, which comes only once
            plugins().unregister(self)
            raise
        finally:
            self.close()
