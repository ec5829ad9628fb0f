"""What of that which is asked of a solve its adapter serves: one rule for all of it."""

from __future__ import annotations

from .adapter import Adapter
from .errors import AlignError, CheckpointError, NoEstimateError
from .phases import Asked
from .terms import StepTerm

_ALIGN = "`observe(align=True)`", "cannot take the reference steps", "aligns", "honours `Solve.align`"
_CHECKPOINT = "`observe(checkpoint=True)`", "cannot take a step once more", "checkpoints", "honours `Solve.checkpoint`"
_SAMPLE = "`LocalSample`", "cannot take a step from anywhere", "samples", "calls `Sampling.begin`"
_REGULARIZE = (
    "`regularize`",
    "puts no gradient behind a solution",
    "injects",
    "has `inject` and returns `Solve.through`",
)


def served(adapter: Adapter, asked: Asked, left_out: dict[str, None]) -> Asked:
    """What remains to be asked: without what `regularize` offers and the adapter does not serve.

    Args:
        adapter, asked: of the solve.
        left_out: why, added here; of a solve that tells `regularize` nothing, it is counted at once.

    Raises:
        AlignError, CheckpointError, NoEstimateError: somebody insists on what is not served.
    """
    if asked.align and not adapter.aligns:
        raise AlignError(_refusal(adapter, *_ALIGN))
    if asked.checkpoint and not adapter.checkpoints:
        raise CheckpointError(_refusal(adapter, *_CHECKPOINT))
    if not _injects(adapter):
        offered, reason = [term for term in asked.terms if term.offered], _refusal(adapter, *_REGULARIZE)
        for term in offered[:1]:
            term.by.left_out.count([reason], 1)  # type: ignore[attr-defined]  # it is an `Offered`
        asked = _without(asked, offered)
    if not adapter.samples:
        insisted = [term for term in asked.samples if not term.offered]
        if insisted:
            raise NoEstimateError(_refusal(adapter, *_SAMPLE))
        for term in asked.samples:
            left_out[_refusal(adapter, *_SAMPLE)] = None
            term.by.left_out.expect(_refusal(adapter, *_SAMPLE))  # type: ignore[attr-defined]  # likewise
        asked = _without(asked, list(asked.samples))
    return asked


def _injects(adapter: Adapter) -> bool:
    # Who declares it and inherits what gives the solution back as it is would leave terms out without a word.
    return adapter.injects and type(adapter).inject is not Adapter.inject


def _without(asked: Asked, offered: list[StepTerm]) -> Asked:
    return asked._replace(terms=tuple(term for term in asked.terms if term not in offered))


def _refusal(adapter: Adapter, what: str, cannot: str, flag: str, does: str) -> str:
    return (
        f"{what} was asked of {adapter.name!r}, whose adapter {cannot}; leave it out, or set `Adapter.{flag}` once the "
        f"adapter {does}."
    )
