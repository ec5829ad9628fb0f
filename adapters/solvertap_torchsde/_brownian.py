"""Extra steps that leave a Brownian motion unchanged.

brownian_interval.py::BrownianInterval changes with every query: it splits intervals, caches the latest increments, and
chooses its resolution by the mean length of the queries. So an extra step would change the increments of later queries.
Its nodes form cycles, so the cache would also stay until the garbage collector runs. Restored, the motion returns the
same increments again, because it computes them from seeds.
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
    """Checks for the attributes that this file uses."""
    require(brownian_interval._Interval, "_start", "_end", "_parent", "_midway", "_left_child", "_right_child")
    require(brownian_interval.BrownianInterval, _CACHE, "_last_interval", "_dt", "_round")


def with_path_restored(step: Callable[..., Any], bm: Any, again: bool) -> Callable[..., Any]:
    """A step of a solver that leaves its Brownian motion as before.

    Args:
        step: the solver's own.
        bm: the Brownian motion.
        again: whether the backward pass recomputes the step. If so, split intervals stay split: queries at other times
            may come before the recomputation and would change its increments.
    """

    @wraps(step)
    def restoring(t0: Any, t1: Any, *args: Any) -> Any:
        with path_restored(bm, t0, t1, split=again):
            return step(t0, t1, *args)

    return restoring


@contextmanager
def path_restored(bm: Any, t0: Any, t1: Any, split: bool = False) -> Iterator[None]:
    """A block that restores a Brownian motion after queries between two times.

    Args:
        bm: the Brownian motion.
        t0, t1: the two times.
        split: whether intervals that the block splits stay split.
    """
    interval = getattr(bm, "_interval", bm)  # derived.py: BrownianPath and BrownianTree wrap one
    if not isinstance(interval, brownian_interval.BrownianInterval):
        yield
        return
    start, end = (interval._round(float(t)) for t in (t0, t1))
    leaves = [] if split else _leaves(interval._last_interval, start, end)
    names = ("_last_interval", "_dt", _CACHE)
    before = [getattr(interval, name) for name in names]
    if interval._dt is None:  # it would count this query for its mean
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
    """The unsplit intervals between two times, found from any node of the tree."""
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
