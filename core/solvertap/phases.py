"""Who observes here, and why the framework solves: for the first time, or once more in a backward pass."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .observation import Observation
    from .terms import StepTerm

FORWARD_NAME = "forward"


class Asked(NamedTuple):
    """What is asked of a solve beyond its counts: terms, each once, a trace, the reference steps, checkpoints."""

    terms: tuple[StepTerm, ...] = ()
    trace: bool | int = False
    align: bool = False
    checkpoint: bool = False

    def __add__(self, other: Asked) -> Asked:  # type: ignore[override]  # requests unite, they do not concatenate
        terms = tuple(dict.fromkeys((*self.terms, *other.terms)))
        trace = True if self.trace is True or other.trace is True else max(self.trace, other.trace)
        return Asked(terms, trace, self.align or other.align, self.checkpoint or other.checkpoint)

    def united(self, other: Asked) -> Asked:
        """Both requests: at once, where one of them asks for nothing."""
        return other if self is NOTHING else self + other

    @property
    def samples(self) -> tuple[StepTerm, ...]:
        """The terms that are measured on an extra step."""
        return tuple(term for term in self.terms if term.sampled)


NOTHING = Asked()


@dataclass(frozen=True, eq=False)
class Phase:
    """One reason to solve. `asked` is what a recomputation repeats of the forward pass."""

    name: str
    asked: Asked = NOTHING


class Scope(NamedTuple):
    """Who observes in this thread or task, and in which phase."""

    observers: tuple[Observation, ...]
    phase: Phase


NOBODY = Scope((), Phase(FORWARD_NAME))
UNSEEN = Scope((), Phase(FORWARD_NAME))
"""As NOBODY, and not even `regularize` may look."""

scope: ContextVar[Scope] = ContextVar("solvertap_scope", default=NOBODY)
current = scope.get
