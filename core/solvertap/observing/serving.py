"""What an adapter serves of a request: one rule for all of it."""

from __future__ import annotations

from ..attaching.adapter import Adapter
from ..errors import AlignError, CheckpointError, NoEstimateError
from ..solves.optional_term import refusals_of
from ..solves.request import Request

_ALIGN = "`observe(align=True)`", "cannot take the reference steps", "aligns", "honours `Solve.align`"
_CHECKPOINT = "`observe(checkpoint=True)`", "cannot take a step again", "checkpoints", "honours `Solve.checkpoint`"
_SAMPLE = "`LocalSample`", "cannot take a step from anywhere", "samples", "calls `ExtraStep.begin`"
_REGULARIZE = (
    "`regularize`",
    "puts no gradient behind a solution",
    "injects",
    "has `inject` and returns `Solve.through`",
)


def served(adapter: Adapter, request: Request, left_out: dict[str, None]) -> Request:
    """The request without the optional terms that the adapter does not serve.

    Args:
        adapter, request: of the solve.
        left_out: gets the reasons; where the adapter does not inject, they are counted at once.

    Raises:
        AlignError, CheckpointError, NoEstimateError: the request has something that the adapter does not serve.
    """
    if request.align and not adapter.aligns:
        raise AlignError(_refusal(adapter, *_ALIGN))
    if request.checkpoint and not adapter.checkpoints:
        raise CheckpointError(_refusal(adapter, *_CHECKPOINT))
    if not _injects(adapter):
        reason = _refusal(adapter, *_REGULARIZE)
        for refusals in [refusals for term in request.terms if (refusals := refusals_of(term)) is not None][:1]:
            refusals.left_out.count([reason], 1)
        request = request._replace(terms=tuple(term for term in request.terms if not term.optional))
    if not adapter.samples:
        reason = _refusal(adapter, *_SAMPLE)
        if any(not term.optional for term in request.samples):
            raise NoEstimateError(reason)
        for term in request.samples:
            left_out[reason] = None
            if (refusals := refusals_of(term)) is not None:
                refusals.left_out.expect(reason)
        request = request._replace(terms=request.folded)
    return request


def _injects(adapter: Adapter) -> bool:
    # An adapter that declares it, and inherits the `inject` that does nothing, would drop terms silently.
    return adapter.injects and type(adapter).inject is not Adapter.inject


def _refusal(adapter: Adapter, what: str, cannot: str, flag: str, does: str) -> str:
    return (
        f"{what} was asked of {adapter.name!r}, whose adapter {cannot}; leave it out, or set `Adapter.{flag}` once the "
        f"adapter {does}."
    )
