"""What a Brownian motion remembers of the steps that are taken beside a solve."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torchsde._brownian import brownian_interval

_CACHE = "_increment_and_space_time_levy_area_cache"


def forgotten(step: Callable[..., Any], bm: Any) -> Callable[..., Any]:
    """A step of a solver, of whose increments its Brownian motion remembers none.

    brownian_interval.py::BrownianInterval remembers the latest that it was asked for, and finds any other anew from
    its seeds, the same number. It lies in circles, so that what it remembers stays until the garbage collector runs.
    """
    interval = _interval_of(bm)
    if interval is None:
        return step

    def forgetting(*args: Any) -> Any:
        with _as_it_was(interval):
            return step(*args)

    return forgetting


@contextmanager
def _as_it_was(interval: Any) -> Iterator[None]:
    remembered = getattr(interval, _CACHE)
    setattr(interval, _CACHE, dict(remembered) if isinstance(remembered, dict) else remembered)
    try:
        yield
    finally:
        setattr(interval, _CACHE, remembered)


def _interval_of(bm: Any) -> Any:
    """The interval that a Brownian motion is made of; None where it is of another kind."""
    # derived.py: ReverseBrownian has a `base_brownian`, BrownianPath and BrownianTree an `_interval`.
    for name in ("base_brownian", "_interval"):
        bm = getattr(bm, name, bm)
    return bm if isinstance(bm, brownian_interval.BrownianInterval) and hasattr(bm, _CACHE) else None
