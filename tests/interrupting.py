"""Interrupting solvertap wherever CPython could: at each of the places at which it looks for interrupts."""

import contextlib
import dis
import signal
import sys
from functools import cache
from pathlib import Path

import solvertap

# ceval.c looks there, in every version since 3.11: where a function is entered, behind a call, and where a loop turns.
_CHECKS = {"RESUME", "CALL", "CALL_FUNCTION_EX", "JUMP_BACKWARD"}
_FOLDERS = (str(Path(solvertap.__file__).parent), "/adapters/solvertap_")


@cache
def _names(code):
    return {instruction.offset: instruction.opname for instruction in dis.get_instructions(code)}


@cache
def _is_ours(file):
    return any(folder in file for folder in _FOLDERS)


class _Places:
    """Counts the places that a block of code comes by, and raises `KeyboardInterrupt` at the n-th."""

    def __init__(self, n=None):
        self.seen = []  # of each the function, the offset of the instruction and its name
        self._n = n
        self._before = {}

    def __enter__(self):
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_):
        sys.settrace(None)

    def _enter(self, frame, event, _):
        # What is raised in a `__del__`, Python prints and forgets; and when it comes depends on who holds what.
        if not _is_ours(frame.f_code.co_filename) or frame.f_code.co_name == "__del__":
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self._before[frame] = "RESUME"
        return self._step

    def _step(self, frame, event, _):
        if event == "exception":  # what follows is a handler: no call has returned
            self._before[frame] = None
        elif event == "return":
            self._before.pop(frame, None)
        elif event == "opcode":
            name, self._before[frame] = self._before.get(frame), _names(frame.f_code).get(frame.f_lasti)
            if name in _CHECKS:
                self.seen.append((frame.f_code.co_qualname, frame.f_lasti, name))
                if len(self.seen) - 1 == self._n:
                    sys.settrace(None)
                    raise KeyboardInterrupt
        return self._step


def interrupted_anywhere(do, every=1):
    """Does something, interrupted at the first of the places, at the next, and so on, each function's place once.

    Args:
        do: what is done.
        every: interrupt at every so-manieth of them alone.

    Yields:
        after each interrupt the function and after which instruction it was interrupted.
    """
    do()
    with _Places() as places:
        do()
    for n in sorted({place: n for n, place in reversed([*enumerate(places.seen)])}.values())[::every]:
        with _Places(n) as interrupted, contextlib.suppress(KeyboardInterrupt):
            do()
        assert interrupted.seen == places.seen[: n + 1]
        function, _, instruction = places.seen[n]
        yield function, instruction


class after:
    """Raises `KeyboardInterrupt` in the main thread, by a signal, after some seconds."""

    def __init__(self, seconds):
        self._seconds = seconds

    def __enter__(self):
        self._handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(self, *_):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._handler)
