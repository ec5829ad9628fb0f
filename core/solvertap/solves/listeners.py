"""Whom a solve notifies."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

from ..steps.facts import Facts
from ..steps.step import Step
from .framework import Framework
from .request import Phase
from .samples import on_host
from .stats import Stats
from .trace import Trace


class Ended(Protocol):
    """A solve that has ended; see `Solve`."""

    adapter: Framework
    phase: Phase
    method: str
    facts: Facts | None
    place: str
    random_layers: tuple[str, ...]
    trace_wanted: bool | int

    @property
    def stats(self) -> Stats:
        """Its counts."""
        ...

    @property
    def attempted(self) -> bool:
        """Whether there is any step in its trace."""
        ...

    @property
    def trace(self) -> Trace:
        """Its trace."""
        ...


class Traced(NamedTuple):
    """A solve that has ended, with its trace.

    Attributes:
        adapter, method, phase, place: as of `Solve`.
        facts: what is the same for every step.
        random_layers: as of `Solve`.
        stats: its counts, as numbers.
        trace: its steps, as NumPy arrays; both of one solve, or of one sample of a batch.
    """

    adapter: str
    method: str
    phase: str
    place: str
    facts: Facts
    random_layers: tuple[str, ...]
    stats: Stats
    trace: Trace


class Listeners(NamedTuple):
    """Whom a solve notifies: of each attempted step; when it has ended, of its counts, and of its trace."""

    on_step: Callable[[Step], None] | None = None
    on_finished: Callable[[Stats], None] | None = None
    on_traced: Callable[[Traced], None] | None = None

    def ended(self, solve: Ended) -> None:
        """Notifies of a solve that has ended: at once, or each time its compiled program has run."""
        framework = solve.adapter
        if self.on_finished is not None:
            for stats in on_host(solve.stats, framework.to_numpy):
                framework.on_host(self.on_finished, stats)
        if self.on_traced is not None and solve.trace_wanted and solve.attempted:
            seen = on_host(solve.stats, framework.to_numpy), solve.trace
            framework.on_host(partial(_tell, self.on_traced, _about(solve)), seen)


NOBODY = Listeners()


def traced(solve: Ended) -> list[Traced]:
    """A solve that has ended, or each sample of a batch; outside of transformations."""
    found: list[Traced] = []
    _tell(found.append, _about(solve), (on_host(solve.stats, solve.adapter.to_numpy), solve.trace))
    return found


def _about(solve: Ended) -> Callable[[Stats, Trace], Traced]:
    # No part of the solve itself: what JAX compiles holds it.
    facts, layers = (solve.facts or Facts()).known(), solve.random_layers
    return partial(Traced, solve.adapter.name, solve.method, solve.phase.name, solve.place, facts, layers)


def _tell(
    on_traced: Callable[[Traced], None], about: Callable[[Stats, Trace], Traced], seen: tuple[list[Stats], Trace]
) -> None:
    stats, trace = seen
    for counts, sample in zip(stats, trace.samples(), strict=True):
        on_traced(about(counts, sample))
