"""A reservoir: which accepted step of a solve is drawn, decided while the solve goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from array_api_compat import device

from ..steps.arithmetic import along
from ..steps.arrays import Array, State, array_namespace, parts, real_dtype
from ..steps.step import Step
from ..terms.local_sample import Draw


class RandomSource(NamedTuple):
    """What a solve draws its random time by.

    Attributes:
        numbers: the n-th number, uniform over [0, 1): n counts the accepted steps, and 0 is for the place within the
            one that was drawn. Called with n and the state at the end of that step, or its start for n = 0. In a batch
            it gives a number for each sample.
        end: the time at which the solve ends, in the user's time; None where that is not known before.
    """

    numbers: Callable[[Any, State], Array]
    end: Array | None = None


class Reservoir(NamedTuple):
    """The accepted step that would be drawn if the solve ended here: constants, without gradient.

    In a batch every sample has its own. Where one has taken no step yet, its `total` is zero, the rest of no use.
    """

    total: Array
    t0: Array
    t1: Array
    y0: State


def keep(
    kept: Reservoir | None, draw: Draw, step: Step, source: RandomSource, n: Any, taken: Array | None = None
) -> Reservoir:
    """The reservoir after the n-th accepted step, whose `y0` is a constant: each stays in proportion to its weight.

    Chao, A general purpose unequal probability sampling plan, Biometrika 69, 1982. The weight of a step
    is 1, or its length in time. The memory is that of one state, and a solve need not know when it will end. In a batch
    the samples that have `taken` the step draw, each by itself; the others keep what they have.
    """
    weight: Any = 1.0 if draw == "steps" else abs(_cut(step.t0, step.t1, source.end) - step.t0)
    if taken is not None:
        weight = weight * taken
    if kept is None:
        return Reservoir(weight, step.t0, step.t1, step.y0)
    total = kept.total + weight
    chosen = source.numbers(n, step.y1) * total <= weight
    if taken is not None:
        chosen = chosen & taken
    return Reservoir(
        total, _choose(chosen, step.t0, kept.t0), _choose(chosen, step.t1, kept.t1), _choose(chosen, step.y0, kept.y0)
    )


def drawn(
    kept: Reservoir, draw: Draw, source: RandomSource, reach: Callable[[Array, State, Array], State]
) -> tuple[Array, State, Array]:
    """Where the extra step starts and ends: t, the state there, t + h.

    Args:
        kept: the step that was drawn.
        draw: how.
        source: as for `keep`.
        reach: the state at the end of a step from a time and a state to another time.
    """
    t0, t1, y0 = kept[1:]
    if draw == "steps":
        return t0, y0, t1
    t = t0 + source.numbers(0, y0) * (_cut(t0, t1, source.end) - t0)
    return t, reach(t0, y0, t), _cut(t, t + (t1 - t0), source.end)


def _cut(t0: Array, t1: Array, end: Array | None) -> Array:
    """The end of a step from t0 to t1 that does not go past the end of the solve."""
    if end is None:
        return t1
    if isinstance(abs(t1 - t0) <= abs(end - t0), bool):  # all three are numbers
        return t1 if abs(t1 - t0) <= abs(end - t0) else end
    return array_namespace(t0, t1, end).where(abs(t1 - t0) <= abs(end - t0), t1, end)


def _choose(chosen: Any, new: State, old: State) -> Any:
    if isinstance(chosen, bool):
        return new if chosen else old
    if isinstance(new, tuple):
        return tuple(_choose(chosen, a, b) for a, b in zip(new, old, strict=True))
    return array_namespace(chosen).where(along(chosen, new), new, old)


class EachSample:
    """The random numbers of a batch: the source is asked once for every sample, and gives one number at a time.

    A function of n that was given for a key gives all of them the same number.
    """

    def __init__(self, numbers: Callable[[Any, State], Array], batch: int) -> None:
        self._numbers, self._batch, self._n = numbers, batch, 0

    def __call__(self, n: Any, y: State) -> Array:
        """One number for each sample."""
        # The samples have accepted different numbers of steps, which only their device knows. Steps are counted here.
        self._n = 0 if isinstance(n, int) and n == 0 else self._n + 1
        like = parts(y)[0]
        drawn = [self._numbers(self._n, y) for _ in range(self._batch)]
        return array_namespace(like).asarray(drawn, dtype=real_dtype(like), device=device(like))

    def spent(self) -> None:
        """The solve is over; see the numbers of torch."""
        getattr(self._numbers, "spent", int)()
