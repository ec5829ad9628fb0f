"""Checks whether an adapter keeps its promises with the installed framework, for `solvertap doctor`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace
from array_api_compat import device as device_of

from .attaching.adapter import Adapter
from .attaching.trial import Trial
from .errors import PenaltyRefusedError
from .observing.observe import observe
from .plugins.attachment import attach, detach, misfits, patches_of
from .steps.checking import every_step
from .terms.error_and_stiffness import LocalError, Stiffness
from .terms.term import Term

# A replay takes the same steps: its values differ only by the rounding of times. Difference quotients lose digits.
_VALUE, _GRADIENT = 1e-9, 1e-6


class Fact(NamedTuple):
    """One promise, whether it was kept, and what was found."""

    name: str
    kept: bool
    found: str


@dataclass
class Checkup:
    """The facts found about one adapter; the first that fails is the last.

    Attributes:
        facts: in the order of the checks.
        tried: whether the adapter has a trial. Without one, only its patches are examined.
        refused: the names of the terms that it refuses on its trial, which is a promise kept.
    """

    adapter: Adapter
    facts: list[Fact]
    tried: bool = False
    refused: tuple[str, ...] = ()

    @property
    def failure(self) -> Fact | None:
        """The first failing fact; None if there is none."""
        return next((fact for fact in self.facts if not fact.kept), None)


def examine(adapter: Adapter, device: str | None = None) -> Checkup:
    """Solves the adapter's trial problem bare and observed, and compares. Detaches every adapter before and after.

    Args:
        adapter: its library must be imported.
        device: where to solve, by the framework's name for it; None for its default.
    """
    checkup = Checkup(adapter, [])
    detach()
    try:
        with every_step():
            for fact in _facts(checkup, device):
                checkup.facts.append(fact)
                if not fact.kept:
                    break
    except Exception as error:  # whatever a framework raises is reported as a fact
        checkup.facts.append(Fact("runs", False, f"The trial raised {type(error).__name__}: {error}"))
    finally:
        detach()
    return checkup


def _facts(checkup: Checkup, device: str | None) -> Iterator[Fact]:
    adapter = checkup.adapter
    attach()
    yield Fact("fits", adapter.name not in misfits(), misfits().get(adapter.name, "every probe found what it needs"))
    patches = patches_of(adapter.name)
    detach()
    trial = adapter.trial(device)
    checkup.tried = trial is not None
    if trial is not None:
        with trial.environment():
            terms = LocalError(rtol=trial.rtol, atol=trial.atol), Stiffness()
            refusals = {term: refusal for term in terms if (refusal := _refusal(trial, term)) is not None}
            checkup.refused = tuple(term.name for term in refusals)
            yield from _solution(adapter, trial, [term for term in terms if term not in refusals])
            for term in terms:
                if term in refusals:
                    yield Fact(term.name, True, f"refused: {refusals[term]}")
                else:
                    yield from _penalty(adapter, trial, term)
    detach()
    left = [patch.label for patch in patches if not patch.is_restored()]
    yield Fact("restored", not left, f"not given back: {', '.join(left)}" if left else f"all {len(patches)} attributes")


def _refusal(trial: Trial, term: Term) -> PenaltyRefusedError | None:
    """The error by which the adapter refuses a term; None if it serves the term."""

    def penalty(parameters: Any) -> tuple[Any, None]:
        with observe(term) as seen:
            trial.solve(parameters, trial.y0, trial.t0, trial.t1, adaptive=True)
        return seen.penalty, None

    try:
        trial.differentiate(penalty)
    except PenaltyRefusedError as refusal:
        return refusal
    return None


def _solution(adapter: Adapter, trial: Trial, terms: Sequence[Term]) -> Iterator[Fact]:
    """Whether states and their gradient are bitwise those of the bare solve, and whether each solve is finished."""
    ended: list[bool] = []

    def run(block: Callable[[], AbstractContextManager[Any]]) -> tuple[Any, Any]:
        def total(parameters: Any) -> tuple[Any, Any]:
            with block() as seen:
                y1 = trial.solve(parameters, trial.y0, trial.t0, trial.t1, adaptive=True)
            if seen is not None:
                ended.append(bool(seen.solves) and all(solve.finished for solve in seen.solves))
            return y1.sum(), y1

        gradient, y1 = trial.differentiate(total)
        return adapter.to_numpy(y1), adapter.to_numpy(gradient)

    bare = run(nullcontext)
    term = reduce(operator.add, terms) if terms else None
    for what, block in (
        ("counted", observe),
        ("penalized", partial(observe, term)),
        ("traced", partial(observe, term, trace=True)),
    ):
        found = run(block)
        for name, a, b in zip(("solution", "its gradient"), found, bare, strict=True):
            off = float(np.max(np.abs(a - b)))
            result = "bitwise the bare one" if np.array_equal(a, b) else f"off by {off:.1e} from the bare one"
            yield Fact(f"{name}, {what}", np.array_equal(a, b), result)
    result = "each solve that began was finished" if all(ended) else "no solve was seen, or one was never finished"
    yield Fact("finished", all(ended), result)


def _penalty(adapter: Adapter, trial: Trial, term: Term) -> Iterator[Fact]:
    """The gradient of a penalty against central differences of a replay on the frozen grid."""
    (name,) = [step_term.name for _, step_term in term.pairs()]

    def penalty(parameters: Any) -> tuple[Any, Any]:
        with observe(term, trace=True) as seen:
            trial.solve(parameters, trial.y0, trial.t0, trial.t1, adaptive=True)
        return seen.penalty, (seen.penalty, seen.trace)

    @trial.compiled
    def one_step(parameters: Any, y0: Any, t0: Any, t1: Any) -> tuple[Any, Any]:
        with observe(term) as seen:
            y1 = trial.solve(parameters, y0, t0, t1, adaptive=False)
        return y1, seen.penalty

    gradient, (value, trace) = trial.differentiate(penalty)
    steps = trace.numpy()
    accepted = steps["accepted"]

    def replayed(parameters: Any) -> float:
        y, total = trial.y0, 0.0
        for t, h in zip(steps["t"][accepted], steps["h"][accepted], strict=True):
            y, added = one_step(parameters, y, t, t + h)
            total += float(adapter.to_numpy(added))
        return total

    off = abs(replayed(trial.parameters) / float(adapter.to_numpy(value)) - 1)
    found = f"off by {off:.1e} from a replay of the {accepted.sum()} accepted steps, {(~accepted).sum()} rejected"
    yield Fact(name, off <= _VALUE and not accepted.all(), f"{found} (allowed: {_VALUE:.0e}, and some rejected)")
    gradient = adapter.to_numpy(gradient)
    off = _distance_from_quotients(replayed, trial.parameters, gradient)
    yield Fact(
        f"gradient of {name}",
        off <= _GRADIENT,
        f"off by {off:.1e} from difference quotients (allowed: {_GRADIENT:.0e})",
    )


def _distance_from_quotients(function: Callable[[Any], float], parameters: Any, gradient: Any) -> float:
    """Relative to the gradient, along a direction across all parameters; central differences of order 4."""
    direction = np.random.default_rng(0).normal(size=gradient.shape)
    along = array_namespace(parameters).asarray(direction, dtype=parameters.dtype, device=device_of(parameters))

    def quotient(h: float) -> float:
        return (function(parameters + h * along) - function(parameters - h * along)) / (2 * h)

    def best(h: float) -> float:
        return (4 * quotient(h) - quotient(2 * h)) / 3

    scale = float(np.linalg.norm(gradient) * np.linalg.norm(direction))
    return min(abs(best(h) - float(gradient @ direction)) for h in (1e-4, 1e-5)) / max(scale, 1e-300)
