"""What the solves of each place in a script have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..solves.listeners import Traced
from ..solves.stats import Stats
from ..solves.thinned import Thinned
from .anatomy import Anatomy
from .course import backward_solve, growth
from .explain import explain_solve
from .verdict import Verdict, percent

NUMBERS = ("solves", "evaluations", "attempts", "at most")
"""The headings of `Explanation.numbers`."""

HEALTHY = "Nothing limits the steps but the problem."
TOLD = "The steps are as long as the solver was told: no tolerance sets them."
UNSEEN = "solvertap saw no solve whose steps it could trace."

_KEPT = 65


class Place(NamedTuple):
    """Where solves are called, and by what."""

    place: str
    adapter: str
    method: str


class Explanation(NamedTuple):
    """What was found at one place; as text, a line for it and one for each verdict.

    Attributes:
        place: which one.
        solves: how many forward solves there were.
        evaluations: of one solve in the mean; None where they are not known.
        attempts: attempted steps of one solve in the mean.
        verdicts: what limits the steps of at least half of the solves, each with the part of them that it was found in.
        course: the evaluations of single solves in their order, a part of them where there are many.
        typical, first, worst: a solve with that verdict or, without one, in the middle; the first one; the one with
            the most attempts.
    """

    place: Place
    solves: int
    evaluations: float | None
    attempts: float
    verdicts: Sequence[tuple[Verdict, float]]
    course: Sequence[float]
    typical: Anatomy
    first: Anatomy
    worst: Anatomy

    @property
    def solver(self) -> str:
        """The adapter and its method."""
        return f"{self.place.adapter} {self.place.method}".rstrip()

    @property
    def limits(self) -> str:
        """The illnesses by name."""
        named = ", ".join(verdict.illness for verdict, _ in self.verdicts)
        return named or ("fixed steps" if self.typical.told else "nothing")

    @property
    def without_findings(self) -> str:
        """What there is to say where nothing was found."""
        return TOLD if self.typical.told else HEALTHY

    @property
    def numbers(self) -> tuple[str, str, str, str]:
        """Solves, evaluations and attempts of one, and the most attempts, as text."""
        evaluations = "-" if self.evaluations is None else f"{self.evaluations:.1f}"
        return str(self.solves), evaluations, f"{self.attempts:.1f}", str(self.worst.length)

    def __str__(self) -> str:
        one = "" if self.solves == 1 else f", the most {self.worst.length}"
        _, evaluations, attempts, _ = (number.removesuffix(".0") for number in self.numbers)
        evaluations = "" if self.evaluations is None else f"{evaluations} evaluations, "
        solves = f"{self.solves} solve{'' if self.solves == 1 else 's'} of {evaluations}{attempts} attempted steps"
        head = f"{self.place.place} ({self.solver}): {solves}{one}."
        return "\n".join([head, *(self.findings() or [self.without_findings])])

    def findings(self) -> list[str]:
        """A line for each verdict: what was found, and what to do."""
        return [
            f"{verdict.illness}: {verdict.finding}{'' if share == 1 else f' In {percent(share)} of the solves.'} "
            f"{verdict.remedy}"
            for verdict, share in self.verdicts
        ]


class _Kept(NamedTuple):
    anatomy: Anatomy
    evaluations: float | None


@dataclass
class _Seen:
    solves: int = 0
    attempts: int = 0
    evaluations: float = 0.0
    counted: int = 0  # solves whose evaluations are known
    solved: Thinned[_Kept] = field(default_factory=lambda: Thinned(_KEPT))
    worst: Anatomy | None = None
    layers: tuple[str, ...] = ()

    def add(self, traced: Traced) -> None:
        anatomy, evaluations = Anatomy.of(traced.trace, traced.facts), traced.stats.evaluations
        self.layers = traced.random_layers or self.layers
        self.solves += 1
        self.attempts += anatomy.length
        if self.worst is None or anatomy.length > self.worst.length:
            self.worst = anatomy
        if evaluations is not None:
            self.evaluations += float(evaluations)
            self.counted += 1
        self.solved.add(_Kept(anatomy, None if evaluations is None else float(evaluations)))


class Places:
    """Solves by place. What is kept does not grow with their number."""

    def __init__(self) -> None:
        self._seen: dict[Place, _Seen] = {}
        self._backward: dict[str, int] = {}  # attempts, by the place of the forward solve

    def add(self, traced: Traced) -> None:
        """Takes one solve of the forward pass that has ended."""
        self._seen.setdefault(Place(traced.place, traced.adapter, traced.method), _Seen()).add(traced)

    def add_backward(self, place: str, stats: Stats) -> None:
        """Takes one solve of a continuous adjoint that has ended, by the place of its forward solve."""
        if stats.accepted is not None and stats.rejected is not None:
            attempts = int(stats.accepted) + int(stats.rejected)
            self._backward[place] = self._backward.get(place, 0) + attempts

    def explain(self) -> list[Explanation]:
        """What was found at each place, in the order in which they were first seen."""
        return [self._explained(place, seen) for place, seen in self._seen.items()]

    def _explained(self, place: Place, seen: _Seen) -> Explanation:
        kept = [each.anatomy for each in seen.solved.kept]
        evaluations = [each.evaluations for each in seen.solved.kept if each.evaluations is not None]
        found = [explain_solve(anatomy, seen.layers) for anatomy in kept]
        typical = _middle(kept)
        verdicts: list[tuple[Verdict, float]] = []
        for name, count in Counter(verdict.illness for verdict in found if verdict is not None).most_common(1):
            if 2 * count >= len(found):
                typical, verdict = _middle_of(kept, found, name)
                verdicts.append((verdict, count / len(found)))
        of_course = (growth(evaluations, seen.solves), backward_solve(*self._both_ways(place.place)))
        verdicts += [(verdict, 1.0) for verdict in of_course if verdict is not None]
        assert seen.worst is not None  # there is no place without a solve
        return Explanation(
            place,
            seen.solves,
            seen.evaluations / seen.counted if seen.counted else None,
            seen.attempts / seen.solves,
            verdicts,
            tuple(evaluations),
            typical,
            kept[0],
            seen.worst,
        )

    def _both_ways(self, where: str) -> tuple[float, float]:
        """The attempts of one solve at a place, and of the backward solves for it, in the mean."""
        ours = [seen for place, seen in self._seen.items() if place.place == where]
        solves = sum(seen.solves for seen in ours)
        return sum(seen.attempts for seen in ours) / solves, self._backward.get(where, 0) / solves


def _middle_of(
    anatomies: Sequence[Anatomy], verdicts: Sequence[Verdict | None], illness: str
) -> tuple[Anatomy, Verdict]:
    """The solve in the middle of those with an illness, and its verdict."""
    pairs = zip(anatomies, verdicts, strict=True)
    ill = [(each, verdict) for each, verdict in pairs if verdict is not None and verdict.illness == illness]
    return sorted(ill, key=lambda pair: pair[0].length)[len(ill) // 2]


def _middle(anatomies: Sequence[Anatomy]) -> Anatomy:
    return sorted(anatomies, key=lambda anatomy: anatomy.length)[len(anatomies) // 2]
