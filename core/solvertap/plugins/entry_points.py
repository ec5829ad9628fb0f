"""The entry points of a group, and those among them whose name is taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata


@dataclass(frozen=True, slots=True)
class PluginFailure:
    """A plugin that could not be used: its entry point, its distribution, and the reason."""

    name: str
    distribution: str
    reason: str


def entries(group: str) -> Iterator[tuple[metadata.EntryPoint, str, str]]:
    """Each entry point in the order of names, its distribution, and why it is refused (empty if it is not)."""
    seen: dict[str, metadata.EntryPoint] = {}
    for entry in sorted(metadata.entry_points(group=group), key=lambda entry: (entry.name, _distribution(entry))):
        twin = seen.setdefault(entry.name, entry)
        if twin is entry:
            yield entry, _distribution(entry), ""
        # An editable install beside its own metadata lists one plugin twice; that is no conflict.
        elif (twin.value, _distribution(twin)) != (entry.value, _distribution(entry)):
            yield entry, _distribution(entry), f"the name {entry.name!r} is already taken by {_distribution(twin)!r}"


def _distribution(entry: metadata.EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "unknown"
