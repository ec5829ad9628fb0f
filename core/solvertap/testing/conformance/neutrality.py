"""Observed or not, solutions and their gradients are bitwise the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np

from ...attaching.trial import Trial
from ...observing.regularize import regularize
from ...terms.local_sample import LocalSample
from ...terms.step_term import replayed
from .case import PARAMETERS, ROWS, Case
from .facts import Fact

Block = Callable[[], AbstractContextManager[Any]]


def fixed(n: Any) -> float:  # noqa: ARG001  # the n-th number
    """The random numbers of every `LocalSample` of the kit."""
    return 0.3


def blocks(case: Case) -> Iterator[tuple[str, Block]]:
    """Each way to observe a solve that the adapter serves."""
    serves, term = case.adapter.serves, case.term
    yield "counted", case.observe
    if term is not None:
        yield "penalized", partial(case.observe, term)
    if serves.trace:
        yield "traced", partial(case.observe, trace=ROWS)
    if serves.samples:
        yield "sampled", partial(case.observe, LocalSample(case.local_error), key=fixed)


def eager(case: Case) -> Iterator[Fact]:
    """In float64."""
    yield from _compared(case, np.float64, list(blocks(case)), "")


def single(case: Case) -> Iterator[Fact]:
    """In float32, with everything asked for at once."""
    yield from _compared(case, np.float32, list(blocks(case))[-1:], " in float32")


def compiled(case: Case) -> Iterator[Fact]:
    """In a compiled function, where the library compiles."""
    if type(case.trial).compiled is not Trial.compiled:
        yield from _compared(case, np.float64, list(blocks(case))[1:2], " in a compiled function")


def regularized(case: Case) -> Iterator[Fact]:
    """Under `regularize` the solution is bitwise the same, and the gradient is that of the loss plus the penalty."""
    if not case.adapter.serves.regularize or (case.term is None and not case.adapter.serves.samples):
        return
    bare, _ = _run(case, nullcontext, np.float64)
    term = LocalSample(case.local_error) if case.term is None else case.term
    if not case.adapter.serves.terms:
        term = replayed(term)

    def penalty(parameters: Any) -> tuple[Any, Any]:
        with case.observe(term, key=fixed) as seen:
            case.solve(parameters)
        return seen.penalty, None

    added, _ = case.trial.differentiate(penalty, case.parameters)
    with regularize(0.5 * term, passes="all"):
        found, _ = _run(case, nullcontext, np.float64)
    yield _same("solution, regularized", found[0], bare[0])
    if isinstance(term, LocalSample):  # it draws by a key of its own
        changed = not np.array_equal(found[1], bare[1])
        yield Fact("gradient, regularized", changed, "the penalty's was added" if changed else "is the bare one")
        return
    wanted = bare[1] + 0.5 * case.numpy(added)
    off = float(np.linalg.norm(found[1] - wanted) / np.linalg.norm(wanted))
    allowed = 0.05 if case.trial.differentiates_steps else 1e-8
    yield Fact("gradient, regularized", off <= allowed, f"off by {off:.1e} from loss plus penalty (allowed: {allowed})")


def checkpointed(case: Case) -> Iterator[Fact]:
    """Under `checkpoint` the solution is bitwise the same, the gradient to rounding."""
    if not case.adapter.serves.checkpoint:
        return
    opened: list[Any] = []

    @contextmanager
    def checkpoint() -> Iterator[Any]:
        with case.observe(checkpoint=True) as seen:
            yield seen
        opened.append(seen)

    bare, _ = _run(case, nullcontext, np.float64)
    found, _ = _run(case, checkpoint, np.float64)
    if case.adapter.counts_are_numbers:
        again = opened[0].phases["recomputation"].evaluations
        yield Fact("checkpoint", again > 0, f"{again} evaluations in the backward pass")
    yield _same("solution, checkpointed", found[0], bare[0])
    off = float(np.max(np.abs(found[1] - bare[1])))
    yield Fact("gradient, checkpointed", off <= 1e-10, f"off by {off:.1e} from the bare one (allowed: 1e-10)")


def _compared(case: Case, dtype: Any, which: list[tuple[str, Block]], where: str) -> Iterator[Fact]:
    compiles = "compiled" in where
    bare, _ = _run(case, nullcontext, dtype, compiles)
    ended: list[bool] = []
    for what, block in which:
        found, finished = _run(case, block, dtype, compiles)
        ended += finished
        yield _same(f"solution, {what}{where}", found[0], bare[0])
        if what in ("counted", "traced") or not case.trial.differentiates_steps:
            yield _same(f"its gradient, {what}{where}", found[1], bare[1])
    told = "each solve that began was finished" if all(ended) and ended else "no solve was seen, or one not finished"
    yield Fact(f"finished{where}", all(ended) and bool(ended), told)


def _run(case: Case, block: Block, dtype: Any, compiles: bool = False) -> tuple[Any, list[bool]]:
    ended: list[bool] = []

    def total(parameters: Any) -> tuple[Any, Any]:
        with block() as seen:
            y1 = case.solve(parameters)
        if seen is not None:
            ended.append(bool(seen.solves) and all(solve.finished for solve in seen.solves))
        return y1.sum(), y1

    def differentiated(parameters: Any) -> tuple[Any, Any]:
        return case.trial.differentiate(total, parameters)

    function = case.trial.compiled(differentiated) if compiles else differentiated
    gradient, y1 = function(case.trial.array(PARAMETERS.astype(dtype)))
    return (case.numpy(y1), case.numpy(gradient)), ended


def _same(name: str, found: Any, bare: Any) -> Fact:
    if np.array_equal(found, bare):
        return Fact(name, True, "bitwise the bare one")
    return Fact(name, False, f"off by {float(np.max(np.abs(found - bare))):.1e} from the bare one")
