"""Locks on files, so that processes share a folder without harm.

A lock is the kernel's (`flock`) on an open file. It ends with its process, whatever ends that: a file that is left
behind is no lock, and no process id has to be judged dead or alive. The file says who holds it, for whoever reads it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows: there, nothing is locked
    fcntl = None  # type: ignore[assignment]

_PAUSE = 0.2


class Lock:
    """A lock by the file at a path, whose folder is there.

    Args:
        path: of the file. It is made to lock, and is gone when nobody holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def acquire(self, *, shared: bool = False) -> bool:
        """Takes the lock; False where another process has it, or where a shared one meets an exclusive one."""
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            if not _locked(file, shared=shared):
                os.close(file)
                return False
            # Whoever had it may have removed the file between the two calls: a lock on that one locks nothing.
            if _is_at(file, self.path):
                break
            os.close(file)
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
        self._file = file
        return True

    def release(self) -> None:
        """Gives it back. The file goes, unless others share it."""
        if self._file is None:
            return
        if _locked(self._file, shared=False):
            self.path.unlink(missing_ok=True)
        os.close(self._file)
        self._file = None

    @contextlib.contextmanager
    def waited_for(self) -> Iterator[None]:
        """Holds it for a block, as soon as nobody else does."""
        while not self.acquire():
            time.sleep(_PAUSE)
        try:
            yield
        finally:
            self.release()


def holder(path: Path) -> str | None:
    """Who holds the lock of that file, in words; None where nobody does."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        # Shared, so that two who look at once see no lock in each other.
        if _locked(file, shared=True):
            return None
        return os.read(file, 1000).decode() or "another process"
    finally:
        os.close(file)


def is_here(holder: str | None) -> bool:
    """Whether who holds a lock is on this machine."""
    return holder is not None and holder.endswith(f" on {socket.gethostname()}")


def _locked(file: int, *, shared: bool) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
