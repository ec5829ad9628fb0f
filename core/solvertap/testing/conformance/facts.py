"""What was found about one adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ...attaching.adapter import Adapter


class Fact(NamedTuple):
    """One promise, whether it was kept, and what was found."""

    name: str
    kept: bool
    found: str


@dataclass
class Report:
    """The facts about one adapter.

    Attributes:
        facts: in the order of the promises.
        tried: whether the adapter has a trial. Without one, only its patches are examined.
        refused: the names of the terms that it refuses on its trial, which is a promise kept.
    """

    adapter: Adapter
    facts: list[Fact] = field(default_factory=list)
    tried: bool = False
    refused: tuple[str, ...] = ()

    @property
    def failures(self) -> Sequence[Fact]:
        """The facts that are no good."""
        return [fact for fact in self.facts if not fact.kept]

    @property
    def failure(self) -> Fact | None:
        """The first of them; None if there is none."""
        return next(iter(self.failures), None)

    def __str__(self) -> str:
        width = max((len(fact.name) for fact in self.facts), default=0)
        rows = [f"{fact.name:<{width}}  {'yes' if fact.kept else 'NO '}  {fact.found}" for fact in self.facts]
        return "\n".join([self.adapter.name, *rows])
