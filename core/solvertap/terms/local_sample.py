"""One extra step from a random time of a solve, instead of all of its steps.

Pal, Edelman, Rackauckas, Locally Regularized Neural Differential Equations: Some Black Boxes Were Meant to Remain
Closed! (ICML 2023, arXiv 2303.02262).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from ..errors import InvalidInputError
from .step_term import StepTerm
from .term import NamedTerm

Draw = Literal["uniform", "steps"]


@dataclass(frozen=True, kw_only=True)
class LocalSample(NamedTerm):
    """A term on one extra step from a random time of each solve: for solves that no gradient passes through.

    The solver takes one more step, of its own method, from a time t to t + h. The state at t, t and h are constants,
    so that gradient flows into that step alone: it needs nothing of the solve's backward pass, and works under a
    continuous adjoint (`odeint_adjoint`, `sdeint_adjoint`, `BacksolveAdjoint`) as well.

    Attributes:
        term: what is measured on that step, `weigh_by_step` included.
        draw: "uniform": t is uniform over the time of the solve, the state there is reached by a step of the method
            from the start of the accepted step that t lies in, and h is the size of that one, cut at the end of the
            solve. The value is an unbiased estimate of the mean over time, int m(t) dt / |t1 - t0|, m(t) being what is
            measured from t. "steps": t is the start of an accepted step, each as likely, so that its value is an
            unbiased estimate of `term` with `reduce="mean"`, and over time it is biased to where steps are short.
        name: by default that of the term with "sampled_" before it.

    Raises InvalidInputError where `term` is no single term or has `replay`, or `draw` neither of the two.
    """

    term: StepTerm = field(kw_only=False)
    draw: Draw = "uniform"
    name: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.term, StepTerm):
            raise InvalidInputError(
                f"`LocalSample` was given {self.term!r}. It samples one term, whose weight stands before it, as in "
                "`100 * LocalSample(LocalError())`."
            )
        if self.term.replay:
            raise InvalidInputError(
                f"`LocalSample` was given {self.term!r}, which has `replay`. A sample takes a step of its own, and "
                "needs none of the solve. Leave `replay` out."
            )
        if self.draw not in get_args(Draw):
            raise InvalidInputError(f"`draw` is {self.draw!r}; the choices are: 'uniform', 'steps'.")
        object.__setattr__(self, "name", self.name or f"sampled_{self.term.name}")

    @property
    def needs_step_doubling(self) -> bool:
        return self.term.needs_step_doubling

    @property
    def optional(self) -> bool:
        return self.term.optional

    @property
    def measures_stiffness(self) -> bool:
        return self.term.measures_stiffness
