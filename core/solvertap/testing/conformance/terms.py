"""Values and gradients of every term and reduction, against a replay on the frozen grid and central differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import PenaltyRefusedError
from ...terms.error_and_stiffness import Stiffness
from ...terms.local_sample import LocalSample
from ...terms.slopes import KineticEnergy, SlopeChange, SquaredLocalError
from ...terms.step_term import StepTerm
from ...terms.sums import add
from .case import PARAMETERS, ROWS, Case, Vector
from .facts import Fact
from .formulas import distance_from_quotients
from .neutrality import fixed
from .replay import FromOneStep, FromTableau, Replay, accepted_grid, total

# A replay takes the same steps: its values differ only by rounding. Difference quotients lose digits.
VALUE, GRADIENT = 1e-9, 1e-6


def quick(case: Case) -> Iterator[Fact]:
    """The local error and the stiffness alone, each by itself."""
    grid, replay = _grid(case)
    for term in case.terms:
        yield from _compared(case, [term], replay, grid, term.name)


def every(case: Case) -> Iterator[Fact]:
    """Every term by every reduction, all in one solve; one by one where they do not agree."""
    bases = _bases(case)
    terms = [term for each in bases for term in _served(case, each)]
    for term in bases[2:]:
        if term in case.refused:
            yield Fact(term.name, True, f"refused: {case.refused[term]}")
    if not terms:
        return
    grid, replay = _grid(case)
    facts = list(_compared(case, terms, replay, grid, f"{len(terms)} terms and reductions"))
    if not all(fact.kept for fact in facts) and len(terms) > 1:
        facts = _first_failing(case, terms, replay, grid) or facts
    yield from facts


def _first_failing(
    case: Case, terms: Sequence[StepTerm], replay: Replay, grid: Sequence[tuple[float, float]]
) -> list[Fact]:
    """The facts about the first term that does not agree, by its name."""
    for term in terms:
        facts = list(_compared(case, [term], replay, grid, term.name))
        if not all(fact.kept for fact in facts):
            return facts
    return []


def refusal(case: Case, term: StepTerm) -> PenaltyRefusedError | None:
    """The error by which the adapter refuses a term; None if it serves the term."""
    try:
        with case.observe(term):
            case.solve(case.parameters)
    except PenaltyRefusedError as refused:
        return refused
    return None


def sampled(case: Case) -> Iterator[Fact]:
    """`LocalSample` with a fixed draw: the step that the rule draws, the state there held constant."""
    if not case.adapter.serves.samples:
        return
    grid, replay = _grid(case)
    ends = [(t0, min(t1, case.trial.t1)) for t0, t1 in grid]
    for draw in ("steps", "uniform"):
        sample = LocalSample(case.local_error, draw=draw)
        index = _drawn([1.0 if draw == "steps" else t1 - t0 for t0, t1 in ends])
        states = _states(replay, grid, sample.term)
        (t0, t1), y0 = grid[index], states[index]
        if draw == "uniform":
            t = t0 + fixed(0) * (ends[index][1] - t0)
            y0 = replay.step(PARAMETERS, y0, t0, t, [])[0] if not isinstance(replay, FromOneStep) else _reach(
                case, y0, t0, t
            )  # fmt: skip
            t0, t1 = t, min(t + (t1 - t0), case.trial.t1)

        def value(parameters: Vector, t0: float = t0, t1: float = t1, y0: Any = y0, term: Any = sample.term) -> float:
            measured = replay.step(parameters, y0, t0, t1, [term])[1][term]
            return measured * (abs(t1 - t0) if term.weigh_by_step else 1.0)

        yield from _agreeing(case, sample, value, f"sample, {draw}")


def _drawn(weights: Sequence[float]) -> int:
    """Chao's rule, by the fixed numbers."""
    kept, so_far = 0, 0.0
    for n, weight in enumerate(weights):
        so_far += weight
        kept = n if n == 0 or fixed(n) * so_far <= weight else kept
    return kept


def _states(replay: Replay, grid: Sequence[tuple[float, float]], term: StepTerm) -> list[Any]:
    states = [replay.start()]
    for t0, t1 in grid[:-1]:
        states.append(replay.step(PARAMETERS, states[-1], t0, t1, [term])[0])
    return states


def _reach(case: Case, y0: Any, t0: float, t1: float) -> Any:
    return case.one_step(case.parameters, y0, t0, t1)


def _grid(case: Case) -> tuple[list[tuple[float, float]], Replay]:
    with case.steps() as steps, case.observe(trace=ROWS) as seen:
        case.solve(case.parameters)
    tableau = next((step["tableau"] for step in steps if step.get("tableau") is not None), None)
    known = tableau is not None and tableau.a is not None and tableau.e is not None
    return accepted_grid(case.trace(seen)), FromTableau(case, tableau) if known else FromOneStep(case)


def _bases(case: Case) -> list[StepTerm]:
    squared = SquaredLocalError(rtol=case.trial.rtol, atol=case.trial.atol)
    return [case.local_error, Stiffness(), squared, KineticEnergy(), SlopeChange()]


def _served(case: Case, term: StepTerm) -> list[StepTerm]:
    refused = case.refused.get(term) if term in case.refused else refusal(case, term)
    if refused is not None:
        case.refused[term] = refused
        return []
    reduced = [replace(term, reduce=reduce, name=f"{term.name} {reduce}") for reduce in ("sum", "mean", "max")]
    weighed = replace(term, weigh_by_step=not term.weigh_by_step, name=f"{term.name} weighed")
    return [*reduced, weighed]


def _compared(
    case: Case, terms: Sequence[StepTerm], replay: Replay, grid: Sequence[tuple[float, float]], name: str
) -> Iterator[Fact]:
    wanted = total(replay, PARAMETERS, grid, terms)
    weights = {term: 1 / max(abs(value), 1e-300) for term, value in wanted.items()}

    def penalty(parameters: Any) -> tuple[Any, Any]:
        with case.observe(add(weights[term] * term for term in terms)) as seen:
            case.solve(parameters)
        return seen.penalty, seen.values

    def replayed(parameters: Vector) -> float:
        return sum(weights[term] * value for term, value in total(replay, parameters, grid, terms).items())

    gradient, values = case.trial.differentiate(penalty, case.parameters)
    off = max(abs(case.number(values[term.name]) / wanted[term] - 1) for term in terms)
    told = f"off by {off:.1e} from {replay.description} of the {len(grid)} accepted steps (allowed: {VALUE:.0e})"
    yield Fact(name, off <= VALUE, told)
    yield _gradient(case, gradient, replayed, name)


def _agreeing(case: Case, sample: LocalSample, value: Any, name: str) -> Iterator[Fact]:
    def penalty(parameters: Any) -> tuple[Any, Any]:
        with case.observe(1.0 * sample, key=fixed) as seen:
            case.solve(parameters)
        return seen.penalty, seen.penalty

    gradient, found = case.trial.differentiate(penalty, case.parameters)
    off = abs(case.number(found) / value(PARAMETERS) - 1)
    yield Fact(name, off <= VALUE, f"off by {off:.1e} from the step that the rule draws (allowed: {VALUE:.0e})")
    yield _gradient(case, gradient, value, name)


def _gradient(case: Case, gradient: Any, function: Any, name: str) -> Fact:
    off = distance_from_quotients(function, PARAMETERS, np.asarray(case.numpy(gradient)))
    told = f"off by {off:.1e} from difference quotients on the frozen grid (allowed: {GRADIENT:.0e})"
    return Fact(f"gradient of {name}", off <= GRADIENT, told)
