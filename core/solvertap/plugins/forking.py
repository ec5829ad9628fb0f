"""A lock that a forked child has anew: the thread that held it in the parent does not exist there."""

from __future__ import annotations

import os
import threading
import weakref

_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


class Lock:
    """A reentrant lock, entered by `with lock():`.

    By a call, so that the block holds the lock that it has entered: a fork may come inside. And it is a lock written
    in C, which no interrupt leaves locked.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locks.add(self)

    def __call__(self) -> threading.RLock:
        return self._lock

    def renew(self) -> None:
        """Forgets who holds it."""
        self._lock = threading.RLock()


def _renew_all() -> None:
    for lock in _locks:
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
