"""A Brownian motion that is asked beside a solve, and does not know of it afterwards.

brownian_interval.py::BrownianInterval grows with what it is asked: it splits the intervals that it has drawn, remembers
the latest increments, and refines itself by the mean length of what was asked. So an extra step would change what the
solver, or the user, is given later; and since it lies in circles, what it remembers would stay until the garbage
collector runs. Request once more, it gives the same increments, from their seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from torchsde._brownian import brownian_interval

from solvertap.adapting import require

_CACHE = "_increment_and_space_time_levy_area_cache"


def probe() -> None:
    """Asks for what this file relies on."""
    require(brownian_interval._Interval, "_start", "_end", "_parent", "_midway", "_left_child", "_right_child")
    require(brownian_interval.BrownianInterval, _CACHE, "_last_interval", "_dt", "_round")


def forgotten(step: Callable[..., Any], bm: Any, again: bool) -> Callable[..., Any]:
    """A step of a solver, of which its Brownian motion knows nothing afterwards.

    Args:
        step: the solver's own.
        bm: the Brownian motion.
        again: whether the step is taken once more in the backward pass. Then what it splits stays split: others may
            have asked for other times by then, and the increments would be others.
    """

    @wraps(step)
    def forgetting(t0: Any, t1: Any, *args: Any) -> Any:
        with as_it_was(bm, t0, t1, split=again):
            return step(t0, t1, *args)

    return forgetting


@contextmanager
def as_it_was(bm: Any, t0: Any, t1: Any, split: bool = False) -> Iterator[None]:
    """A block in which a Brownian motion is asked for times between two, and after which it is as before.

    Args:
        bm: the Brownian motion.
        t0, t1: the two times.
        split: whether intervals that are split meanwhile stay so.
    """
    interval = getattr(bm, "_interval", bm)  # derived.py: BrownianPath and BrownianTree are made of one
    if not isinstance(interval, brownian_interval.BrownianInterval):
        yield
        return
    start, end = (interval._round(float(t)) for t in (t0, t1))
    leaves = [] if split else _leaves(interval._last_interval, start, end)
    names = ("_last_interval", "_dt", _CACHE)
    before = [getattr(interval, name) for name in names]
    if interval._dt is None:  # it would count this for its mean
        interval._dt = end - start
    if isinstance(before[-1], dict):
        setattr(interval, _CACHE, dict(before[-1]))
    try:
        yield
    finally:
        for name, value in zip(names, before, strict=True):
            setattr(interval, name, value)
        for leaf in leaves:
            leaf._midway = leaf._left_child = leaf._right_child = None


def _leaves(node: Any, start: float, end: float) -> list[Any]:
    """The intervals between two times that are not split; found from any node of the tree."""
    while node._parent is not None and (start < node._start or node._end < end):
        node = node._parent
    leaves, nodes = [], [node]
    while nodes:
        node = nodes.pop()
        if node._end <= start or end <= node._start:
            continue
        if node._midway is None:
            leaves.append(node)
        else:
            nodes += [node._left_child, node._right_child]
    return leaves
