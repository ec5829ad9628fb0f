"""What is requested of a solve, and why the framework makes it: for the first time, or again in a backward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from ..steps.groups import BY
from ..terms.local_sample import LocalSample
from ..terms.step_term import StepTerm
from ..terms.term import NamedTerm

FORWARD_NAME = "forward"


class Request(NamedTuple):
    """What is requested of a solve: terms, each once, a trace, the reference steps, checkpoints, shares of E.

    `shared` asks for whatever shares of E are cheap, where `by` names none.
    """

    terms: tuple[NamedTerm, ...] = ()
    trace: bool | int = False
    align: bool = False
    checkpoint: bool = False
    by: tuple[str, ...] = ()
    shared: bool = False

    def __add__(self, other: Request) -> Request:  # type: ignore[override]  # requests unite, they do not concatenate
        if self is NO_REQUEST:  # at once
            return other
        terms = tuple(dict.fromkeys((*self.terms, *other.terms)))
        trace = True if self.trace is True or other.trace is True else max(self.trace, other.trace)
        by = tuple([each for each in BY if each in (*self.by, *other.by)])
        checkpoint, shared = self.checkpoint or other.checkpoint, self.shared or other.shared
        return Request(terms, trace, self.align or other.align, checkpoint, by, shared)

    @property
    def folded(self) -> tuple[StepTerm, ...]:
        """The terms that are measured on the steps of the solve."""
        return tuple([term for term in self.terms if isinstance(term, StepTerm)])

    @property
    def samples(self) -> tuple[LocalSample, ...]:
        """The terms that are measured on an extra step."""
        return tuple([term for term in self.terms if isinstance(term, LocalSample)])


NO_REQUEST = Request()


@dataclass(frozen=True, eq=False)
class Phase:
    """One reason to solve.

    Attributes:
        name: "forward", "adjoint" or "recomputation".
        request: what a recomputation repeats of the forward pass.
        place: where the forward solve of a later phase stands in the caller's code, if that is traced.
        regularizer: of a recomputation, who penalized the forward pass, perhaps stopped since.
    """

    name: str
    request: Request = NO_REQUEST
    place: str = ""
    regularizer: Any = None
