"""The share of the cores that each of several processes gets: with all threads each, they are slower than one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# NPROC is the size of XLA's thread pools on a CPU (xla/pjrt/utils.cc::DefaultThreadPoolSize).
_OF_LIBRARIES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC")


def share_of_cores(workers: int) -> dict[str, str]:
    """The environment of each of so many processes. Who allows fewer threads already is heeded."""
    share = max(1, usable_cores() // workers)
    return {name: str(min(share, _given(name, share))) for name in _OF_LIBRARIES}


def usable_cores() -> int:
    """Those that this process may use."""
    known = getattr(os, "sched_getaffinity", None)  # not everywhere
    return len(known(0)) if known else os.cpu_count() or 1


@contextmanager
def for_children(variables: Mapping[str, str]) -> Iterator[None]:
    """Processes that start in this block have these variables, and leave interrupts to the one that started them."""
    before = {name: os.environ.get(name) for name in variables}
    # What is ignored here stays ignored there; Ctrl-C goes to all of them.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.signal(signal.SIGINT, handler)


def _given(name: str, otherwise: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() and int(text) > 0 else otherwise
