"""What torch holds on the processor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.profiler import ProfilerActivity, profile


def most_held(function: Callable[[], Any]) -> int:
    """The most bytes that are allocated at any time of a call, beyond what is allocated before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as measured:
        function()
    results: Any = measured.profiler
    events = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most
