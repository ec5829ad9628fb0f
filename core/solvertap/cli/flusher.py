"""A thread that writes at regular times, whatever the script does."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable

_EVERY = 0.25  # seconds; half of the promised half second, which leaves the other half for the write


class Flusher:
    """Calls a function four times a second, on a daemon thread that begins when it is first needed.

    The thread ends before the process forks, so that no child inherits a lock that it held, and begins again when
    needed. It also ends before the interpreter does.

    Args:
        work: what to call; it must neither raise nor wait for a device.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._thread: threading.Thread | None = None
        self._beginning = threading.Lock()
        self._ended = threading.Event()
        self._closed = False
        _flushers.add(self)

    def begin(self) -> None:
        """Starts the thread, unless there is one."""
        # Nobody waits for this lock: whoever holds it is starting the thread.
        if self._thread is not None or self._closed or not self._beginning.acquire(blocking=False):
            return
        try:
            if self._thread is None:
                self._ended = threading.Event()
                thread = threading.Thread(target=self._run, args=(self._ended,), name="solvertap", daemon=True)
                thread.start()
                self._thread = thread
        finally:
            self._beginning.release()

    def pause(self, seconds: float = 1.0) -> None:
        """Ends the thread after one last call of the function; waits at most `seconds` for it."""
        thread, self._thread = self._thread, None
        self._ended.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def close(self) -> None:
        """Ends the thread for good."""
        self._closed = True
        self.pause(5.0)

    def _run(self, ended: threading.Event) -> None:
        while not ended.wait(_EVERY):
            self._work()
        self._work()


_flushers: weakref.WeakSet[Flusher] = weakref.WeakSet()


def _pause_all() -> None:
    for flusher in tuple(_flushers):
        flusher.pause()


def _forget_all() -> None:
    _flushers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_pause_all, after_in_child=_forget_all)
