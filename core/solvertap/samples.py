"""One more step from a random time of a solve, in the place of all of its steps.

Pal, Edelman, Rackauckas, Locally Regularized Neural Differential Equations: Some Black Boxes Were Meant to Remain
Closed! (ICML 2023, arXiv 2303.02262).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from array_api_compat import array_namespace

from .around_term import AroundTerm
from .errors import InvalidInputError
from .state import Array, State
from .step import Step
from .terms import StepTerm

Draw = Literal["uniform", "steps"]


@dataclass(frozen=True, kw_only=True)
class LocalSample(AroundTerm):
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

    Raises InvalidInputError where `term` is no single term, or `draw` neither of the two.
    """

    term: StepTerm = field(kw_only=False)
    draw: Draw = "uniform"
    name: str = ""
    weigh_by_step: bool = field(init=False, default=False, repr=False)
    reduce: Any = field(init=False, default="sum", repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.term, StepTerm) or isinstance(self.term, LocalSample):
            raise InvalidInputError(
                f"`LocalSample` was given {self.term!r}; it samples one term, whose weight stands before it, as in "
                "`100 * LocalSample(LocalError())`."
            )
        if self.draw not in get_args(Draw):
            raise InvalidInputError(f"`draw` is {self.draw!r}; the choices are: 'uniform', 'steps'.")
        # How a value counts is the term's own affair.
        object.__setattr__(self, "weigh_by_step", self.term.weigh_by_step)
        object.__setattr__(self, "reduce", self.term.reduce)
        object.__setattr__(self, "name", self.name or f"sampled_{self.term.name}")

    @property
    def sampled(self) -> bool:
        return True


class Unkeyed(NamedTuple):
    """A key where the caller gives none, because he does not know of the draw: his own random numbers stay his.

    Attributes:
        k: the optimiser steps so far, for other draws at the next.
    """

    k: int


class Draws(NamedTuple):
    """What a solve draws by.

    Attributes:
        numbers: the n-th number, uniform over [0, 1): n counts the accepted steps, and 0 is for the place within the
            one that was drawn. Called with n and the state at the end of that step, or its start for n = 0.
        end: the time at which the solve ends, in the user's time; None where that is not known before.
    """

    numbers: Callable[[Any, State], Array]
    end: Array | None = None


class Kept(NamedTuple):
    """The accepted step that a draw would give if the solve ended here. Constants all of them."""

    total: Array
    t0: Array
    t1: Array
    y0: State


def keep(kept: Kept | None, draw: Draw, step: Step, draws: Draws, n: Any) -> Kept:
    """What is kept after the n-th accepted step, whose `y0` is a constant: each with the probability of its weight.

    A reservoir (Chao, A general purpose unequal probability sampling plan, Biometrika 69, 1982): the weight of a step
    is 1, or the time it takes. So the memory is that of one state, and a solve need not know when it will end.
    """
    weight: Any = 1.0 if draw == "steps" else abs(_cut(step.t0, step.t1, draws.end) - step.t0)
    if kept is None:
        return Kept(weight, step.t0, step.t1, step.y0)
    total = kept.total + weight
    taken = draws.numbers(n, step.y1) * total <= weight
    return Kept(
        total, _choose(taken, step.t0, kept.t0), _choose(taken, step.t1, kept.t1), _choose(taken, step.y0, kept.y0)
    )


def drawn(
    kept: Kept, draw: Draw, draws: Draws, reach: Callable[[Array, State, Array], State]
) -> tuple[Array, State, Array]:
    """Where the extra step starts and ends: t, the state there, t + h.

    Args:
        kept: the step that was drawn.
        draw: how.
        draws: as for `keep`.
        reach: the state at the end of a step from a time and a state to another time.
    """
    t0, t1, y0 = kept[1:]
    if draw == "steps":
        return t0, y0, t1
    t = t0 + draws.numbers(0, y0) * (_cut(t0, t1, draws.end) - t0)
    return t, reach(t0, y0, t), _cut(t, t + (t1 - t0), draws.end)


def _cut(t0: Array, t1: Array, end: Array | None) -> Array:
    """The end of a step from t0 to t1 that does not go past the end of the solve."""
    if end is None:
        return t1
    return array_namespace(t0).where(abs(t1 - t0) <= abs(end - t0), t1, end)


def _choose(taken: Any, new: State, old: State) -> Any:
    if isinstance(taken, bool):
        return new if taken else old
    if isinstance(new, tuple):
        return tuple(_choose(taken, a, b) for a, b in zip(new, old, strict=True))
    return array_namespace(taken).where(taken, new, old)
