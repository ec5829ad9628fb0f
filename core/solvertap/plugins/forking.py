"""A lock that is free in a forked child, since the thread that held it does not exist there."""

from __future__ import annotations

import os
import threading
import weakref

_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


class Lock:
    """A reentrant lock, entered by `with lock():`.

    The call makes the block release the lock that it acquired, even if a fork inside has replaced it. The lock is
    written in C, so that no interrupt leaves it locked.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locks.add(self)

    def __call__(self) -> threading.RLock:
        return self._lock

    def renew(self) -> None:
        """Replaces the lock by a free one."""
        self._lock = threading.RLock()


def _renew_all() -> None:
    for lock in _locks:
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
