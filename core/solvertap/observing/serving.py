"""What an adapter serves of a request: one rule for all of it."""

from __future__ import annotations

from ..attaching.adapter import Adapter
from ..errors import AlignError, CheckpointError, InvalidInputError, NoEstimateError, PenaltyRefusedError
from ..solves.optional_term import refusals_of
from ..solves.request import Request
from ..steps.arrays import State
from ..steps.entries import does_not_fit
from ..terms.term import NamedTerm

# Of each capability what is asked for, what an adapter without it does, and what one does that declares it.
_WORDS = {
    "terms": ("A penalty", "hands over steps without gradient", "hands over steps that carry gradient"),
    "trace": ("`observe(trace=True)`", "does not see the steps", "hands over every attempted step"),
    "samples": ("`LocalSample`", "cannot take a step from anywhere", "calls `ExtraStep.begin`"),
    "replay": ("`replay=True`", "does not take its steps again", "calls `Replay.begin`"),
    "align": ("`observe(align=True)`", "cannot take the reference steps", "honours `Solve.align`"),
    "checkpoint": ("`observe(checkpoint=True)`", "cannot take a step again", "honours `Solve.checkpoint`"),
    "regularize": (
        "`regularize`",
        "puts no gradient behind a solution",
        "has `inject` and returns `Solve.through`",
    ),
}


def served(adapter: Adapter, request: Request, left_out: dict[str, None]) -> Request:
    """The request without the optional terms that the adapter does not serve.

    Args:
        adapter, request: of the solve.
        left_out: gets the reasons; where the adapter does not inject, they are counted at once.

    Raises:
        AlignError, CheckpointError, InvalidInputError, NoEstimateError, PenaltyRefusedError: the request has something
            that the adapter does not serve.
    """
    serves = adapter.serves
    if request.align and not serves.align:
        raise AlignError(_refusal(adapter, "align"))
    if request.checkpoint and not serves.checkpoint:
        raise CheckpointError(_refusal(adapter, "checkpoint"))
    if request.trace and not serves.trace:
        raise InvalidInputError(_refusal(adapter, "trace"))
    if not _injects(adapter):
        reason = _refusal(adapter, "regularize")
        for refusals in [refusals for term in request.terms if (refusals := refusals_of(term)) is not None][:1]:
            refusals.left_out.count([reason], 1)
        request = request._replace(terms=tuple(term for term in request.terms if not term.optional))
    if not serves.terms:
        kept = tuple(term for term in request.folded if serves.replay and term.replay)
        rest = tuple(term for term in request.folded if term not in kept)
        _refuse(rest, PenaltyRefusedError(_refusal(adapter, "terms")), left_out)
        request = request._replace(terms=kept + request.samples)
    if not serves.samples:
        _refuse(request.samples, NoEstimateError(_refusal(adapter, "samples")), left_out)
        request = request._replace(terms=request.folded)
    return request


def check_batch(adapter: Adapter, like: State | None) -> None:
    """Checks that an adapter may open a batch.

    Raises:
        StepError: it does not declare batches, or does not say what the state of the batch is like.
    """
    if not adapter.serves.batches:
        wanted = "declare `Serves(batches=True)` once every step has one entry for each sample"
        does_not_fit(adapter.name, "opened a solve of a batch, which it does not declare", wanted)
    if like is None:
        does_not_fit(adapter.name, "opened a solve of a batch without its state", "give `open_solve(..., like=y0)`")


def _refuse(terms: tuple[NamedTerm, ...], refusal: PenaltyRefusedError, left_out: dict[str, None]) -> None:
    if any(not term.optional for term in terms):
        raise refusal
    for term in terms:
        left_out[str(refusal)] = None
        if (refusals := refusals_of(term)) is not None:
            refusals.left_out.expect(str(refusal))


def _injects(adapter: Adapter) -> bool:
    # An adapter that declares it, and inherits the `inject` that does nothing, would drop terms silently.
    return adapter.serves.regularize and type(adapter).inject is not Adapter.inject


def _refusal(adapter: Adapter, name: str) -> str:
    what, cannot, does = _WORDS[name]
    return (
        f"{what} was asked of {adapter.name!r}, whose adapter {cannot}. {_remedy(adapter, name)}, or "
        f"declare `Serves({name}=True)` once the adapter {does}."
    )


def _remedy(adapter: Adapter, name: str) -> str:
    remedies = ("ask for it with `replay=True`",) * adapter.serves.replay
    remedies += ("put `LocalSample` around the term",) * adapter.serves.samples
    remedy = (" or ".join(remedies) if name == "terms" else "") or "leave it out"
    return remedy[0].upper() + remedy[1:]
