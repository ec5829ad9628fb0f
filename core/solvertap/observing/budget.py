"""A weight that finds itself: as large as the solves need it, and never in the way of the loss.

The weight is `cap * share * |grad loss| / |grad penalty|`: with a cap below one, a step on the batch that was measured
still descends its loss. The share, from 0 to 1, controls the steps of a solve, proportional-integral in the logarithm,

    log share = min(0, log multiplier + response * excess),        excess = the mean of log(count / target),
    log multiplier  <-  min(0, log multiplier + gain * excess).

The multiplier is that of the constraint, found by dual ascent as in GECO (Rezende, Viola, arXiv 1810.00597). The other
part damps it, as in nuPI (Sohrabi et al., ICML 2024, arXiv 2406.04558): the steps follow a weight a hundred updates
later, and would fall far below the target. The ratio of gradients is GradNorm's (Chen et al., arXiv 1711.02257).
docs/mathematics.md has what else was tried.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..errors import InvalidInputError
from ..plugins.registry import plugins
from ..solves.stats import Stats
from ..steps.arrays import Array, array_namespace
from ..terms.error_and_stiffness import LocalError
from ..terms.term import Term
from .budget_numbers import count_of, is_harmed, log_ratio, nearness, running_mean, scalar_like, squared_norms
from .budget_state import BudgetState, first_state
from .observation import Observation

_LOWEST, _FIRST = math.log(1e-4), -6.0  # of share and multiplier, in the logarithm; the first multiplier
_FASTEST = math.log(2)  # that the scale falls from one measurement to the next
_IDLE = 1e-6  # a weight that changes nothing, and shows the gradient of the penalty
_WARM_UP = 50  # solves that are only watched, where a part of what they show is asked for
_SLOWLY = 0.2  # a loss is noisier than a count, and smoothed over five times as many
TARGETS = ("steps", "evaluations", "fraction", "loss")


@dataclass(frozen=True)
class budget:
    """A weight for a term that finds itself, from what one solve may cost.

        budget = tap.budget(steps=5)
        state = budget.init()
        for batch in data:
            with tap.observe(budget.at(state)) as seen:
                y = odeint(field, y0, t)
            loss = task(y)
            state = budget.update(state, seen, loss, model.parameters())
            (loss + seen.penalty).backward()

    It holds no state of its own. `regularize(budget)` and `solvertap run --budget` keep that themselves; in a compiled
    step of JAX, which is compiled once, it is an argument and a result, see `updated`.

    Exactly one of the four targets is given. A target that cannot be met leaves the weight at its cap, where the loss
    of a batch still descends, and lets it fall where the smoothed loss gets much worse. One that is met already leaves
    next to no weight.

    Attributes:
        term: what is penalized. Weights inside it keep their proportion.
        steps: the most steps that a solve shall attempt.
        evaluations: the most evaluations of the field that a solve shall take, those of a diffusion included.
        fraction: the part that it shall attempt of the steps that it attempts now: of the mean of its first fifty
            solves. For a model that has been trained.
        loss: how much worse than its best level the smoothed loss may get, 0.02 being two hundredths. The weight waits
            while the loss still falls by more than that in fifty updates; then the solves get as cheap as that allows.
        cap: the most that the norm of the weighted penalty's gradient may be, as a part of that of the loss.
        gain: what is added to the logarithm of the weight in each update, where a solve takes e times too many steps.
        response: what is added to it as long as a solve takes e times too many, and is gone as soon as it does not.
        smoothing: the part that the last solve has in the means.
        every: the gradients are measured in one of so many updates; that costs two backward passes, `regularize` one.

    Raises InvalidInputError where none or several targets are given, or a number is not in its range.
    """

    term: Term = LocalError()  # noqa: RUF009  # immutable
    steps: float | None = None
    evaluations: float | None = None
    fraction: float | None = None
    loss: float | None = None
    cap: float = 0.4
    gain: float = 0.05
    response: float = 5.0
    smoothing: float = 0.1
    every: int = 10

    def __post_init__(self) -> None:
        if not isinstance(self.term, Term):
            raise InvalidInputError(f"`budget` was given {self.term!r}, which is no term; write `budget(steps=5)`.")
        given = [name for name in TARGETS if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(f"`{name}`" for name in given) or "no target"
            raise InvalidInputError(f"`budget` was given {found}; give one of {', '.join(TARGETS)}.")
        for name in (*given, "cap", "gain", "response", "smoothing", "every"):
            value, bounded = getattr(self, name), name in ("fraction", "cap", "gain", "smoothing")
            if not (isinstance(value, int | float) and 0 < value < (1.0 if bounded else float("inf"))):
                wanted = "a number between 0 and 1" if bounded else "a positive, finite number"
                raise InvalidInputError(f"`{name}` of `budget` is {value!r}; give {wanted}.")

    @staticmethod
    def init() -> BudgetState:
        """The state before the first solve, of NumPy scalars; in JAX, updates make it one of JAX arrays."""
        return first_state(weight=_IDLE, best=math.inf, log_multiplier=_FIRST, log_share=_LOWEST)

    def at(self, state: BudgetState) -> Term:
        """The term with the weight of a state."""
        weighted: Term = state.weight * self.term
        return weighted

    def measures(self, state: BudgetState) -> Any:
        """Whether the next update measures the gradients: a truth, or a scalar that is traced."""
        return state.updates % self.every == 0

    def update(self, state: BudgetState, seen: Observation, loss: Array, parameters: Iterable[Array]) -> BudgetState:
        """The state after one more training solve, or after the solves of one loss: for torch, before `backward`.

        Args:
            state: the one before.
            seen: what was observed under `at(state)`.
            loss: `Float[Array, ""]`, without the penalty; its graph is kept.
            parameters: what is trained: tensors that require gradient.

        Raises:
            InvalidInputError: the budget is about steps, or evaluations, and the solver does not show them; or the
                framework cannot differentiate a value afterwards, as JAX cannot.
            NothingObservedError, MixedFrameworksError, EscapedTraceError: as for `Observation.penalty`.
        """
        by: Sequence[Any] = ((), ())
        if self.measures(state):
            penalty, trained = seen.value_of(self.term), list(parameters)
            by = [seen.solves[0].adapter.gradients(value, trained) for value in (loss, penalty)]
        found = self.updated(state, seen.stats, loss, *by)
        plugins().notify("solvertap_budget_updated", state=found)
        return found

    def updated(
        self, state: BudgetState, stats: Stats, loss: Array, by_loss: Sequence[Any] = (), by_penalty: Sequence[Any] = ()
    ) -> BudgetState:
        """As `update`, and with its errors, of gradients that were taken elsewhere, as those of JAX must be.

        Args:
            state: the one before.
            stats: the counts of the solves.
            loss: as for `update`.
            by_loss, by_penalty: the gradients of the loss, and of `term` at a weight of one, by the same parameters:
                arrays, or None where there is none. Empty, or a penalty whose gradient is zero, where this time they
                were not measured.
        """
        count = count_of(stats, evaluations=self.evaluations is not None)
        of = partial(scalar_like, like=count, dtype=getattr(state.weight, "dtype", None))
        squares = map(of, squared_norms(by_loss, by_penalty))
        return self._after(BudgetState(*map(of, state)), of(count), of(loss), *squares)

    def _after(self, old: BudgetState, count: Array, loss: Array, by_loss: Array, by_penalty: Array) -> BudgetState:
        xp, mean = array_namespace(count), partial(running_mean, old.updates)
        finite, begun = xp.isfinite(loss), xp.isfinite(old.best)
        loss = running_mean(begun, old.loss, xp.where(finite, loss, old.loss), _SLOWLY * self.smoothing)
        best, first = xp.where(finite, xp.minimum(old.best, loss), old.best), xp.where(begun, old.first, loss)
        level = loss if self.loss else mean(old.level, count, self.smoothing)
        reference, now = self._excess(old, level, count)
        now = xp.where(is_harmed(loss, best, first), -1, now)
        only_watched = old.updates < (_WARM_UP if self.fraction or self.loss else 0)
        excess = mean(old.excess, xp.where(only_watched, 0, xp.clip(now, -1, 1)), self.smoothing)
        log_multiplier = xp.clip(old.log_multiplier + self.gain * excess, _LOWEST, 0)
        log_share = xp.clip(log_multiplier + self.response * excess, _LOWEST, 0)
        found, usable = log_ratio(by_penalty, by_loss)
        # A penalty near zero asks for any weight, which is too much as soon as it is no longer there.
        log_scale = xp.where(old.measured > 0, xp.maximum(found, old.log_scale - _FASTEST), found)
        log_scale = xp.where(usable, log_scale, old.log_scale)
        measured = old.measured + usable
        return BudgetState(
            weight=xp.where((measured > 0) & ~only_watched, self.cap * xp.exp(log_share - log_scale), _IDLE),
            ratio=xp.where(usable, old.weight * xp.exp(found), old.ratio),
            level=level,
            loss=loss,
            best=best,
            first=first,
            excess=excess,
            log_multiplier=log_multiplier,
            log_share=log_share,
            log_scale=log_scale,
            reference=reference,
            updates=old.updates + 1,
            measured=measured,
        )

    def _excess(self, old: BudgetState, level: Array, count: Array) -> tuple[Array, Array]:
        """What the target is a part of, and how far this solve is from the target."""
        xp = array_namespace(count)
        if self.loss:
            # The best level is followed slowly: a loss that still falls is as far from it as one that has risen.
            reference = xp.where(xp.isfinite(old.best), old.reference, level)
            reference = reference - _SLOWLY * self.smoothing * xp.maximum(reference - level, 0)
            return reference, nearness(level, reference, self.loss)
        if self.fraction:
            reference = old.reference + xp.where(old.updates < _WARM_UP, count - old.reference, 0) / (old.updates + 1)
            return reference, xp.log(count / (self.fraction * reference))
        return old.reference, xp.log(count / (self.steps or self.evaluations))
