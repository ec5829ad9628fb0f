"""One step of a batch whose samples take steps of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from array_api_compat import device

from .arithmetic import along
from .arrays import Array, State, array_namespace, like_parts, parts
from .stages import Stages
from .step import Step, Steps


def taken_by(step: Step, batch: int) -> Array:
    """Which samples took the step: those that attempted it and whose solver kept it; booleans of shape (batch,)."""
    return per_sample(step.attempted, step, batch) & per_sample(step.accepted, step, batch)


def per_sample(flag: Any, step: Step, batch: int) -> Array:
    """A boolean for each sample, where one stands for all of them."""
    if not isinstance(flag, bool):
        return flag
    like = parts(step.y1)[0]
    xp = array_namespace(like)
    return xp.full((batch,), flag, dtype=xp.bool, device=device(like))


def only_taken(step: Step, taken: Array, constant: Callable[[Array], Array]) -> Steps:
    """The step of a batch, in which a sample that took none has the step of one that did.

    Its value is thrown away by `where`, whose derivative is zero times that of the measure. Where the sample is at its
    end, of step size zero, or its attempt is not finite, that could be zero times infinity. The step of another sample
    is one that everything can be measured on.

    Args:
        step: the step.
        taken: which samples took it; where none did, all of them have the step of the first.
        constant: `Framework.constant`.
    """
    xp = array_namespace(taken)
    one = xp.reshape(xp.argmax(xp.astype(taken, xp.int32)), (1,))  # as an index, no device is waited for

    def clean(x: Array) -> Array:
        return xp.where(along(taken, x), x, xp.take(constant(x), one, axis=0))

    def cleaned(state: State | None) -> State | None:
        return None if state is None else like_parts(state, tuple(map(clean, parts(state))))

    return Steps.of(
        step,
        t0=clean(step.t0),
        t1=clean(step.t1),
        y0=cleaned(step.y0),
        y1=cleaned(step.y1),
        error=cleaned(step.error),
        error_ratio=cleaned(step.error_ratio),
        y1_embedded=cleaned(step.y1_embedded),
        stages=None if step.stages is None else replace(step.stages, slopes=list(map(cleaned, _slopes(step.stages)))),
        accepted=True,
        attempted=True,
    )


def each_sample(
    function: Callable[[Step], Any],
    step: Steps,
    mapped: Callable[[Callable[..., Any]], Callable[..., Any]],
    batched: Callable[[Callable[..., Any]], Callable[..., Any]],
) -> Any:
    """What a function of one sample's step gives for each sample.

    Args:
        function: of a step without a batch.
        step: of the whole batch.
        mapped: `Framework.mapped`.
        batched: `Framework.batched`.
    """
    states = [step.y0, step.y1, step.error, step.y1_embedded, *(_slopes(step.stages) if step.stages else ())]
    tolerances = [x if _has_batch(x, step) else None for x in (step.rtol, step.atol)]
    given = [step.t0, step.t1, *(x for state in (*states, *tolerances) if state is not None for x in parts(state))]

    def of_sample(t0: Array, t1: Array, *arrays: Array) -> Any:
        rest = iter(arrays)

        def read(state: State | None) -> State | None:
            return None if state is None else like_parts(state, tuple(next(rest) for _ in parts(state)))

        y0, y1, error, y1_embedded, *slopes = map(read, states)
        rtol, atol = (
            own if sample is None else sample
            for own, sample in zip((step.rtol, step.atol), map(read, tolerances), strict=True)
        )
        stages = None if step.stages is None else replace(step.stages, slopes=slopes)
        field, norm = (None if each is None else batched(each) for each in (step.field, step.norm))
        return function(
            Step(
                t0=t0,
                t1=t1,
                y0=y0,
                y1=y1,
                error=error,
                y1_embedded=y1_embedded,
                doubled=step.doubled,
                rtol=rtol,
                atol=atol,
                norm=norm,
                stages=stages,
                field=field,
                stability_size=step.stability_size,
            )
        )

    return mapped(of_sample)(*given)


def _has_batch(tolerance: Any, step: Step) -> bool:
    """Whether a tolerance has one number for each sample, or several."""
    ndim = getattr(tolerance, "ndim", 0)
    return bool(ndim) and any(ndim == y.ndim and tolerance.shape[0] == y.shape[0] for y in parts(step.y1))


def _slopes(stages: Stages) -> list[State]:
    if isinstance(stages.slopes, list):
        return stages.slopes
    count = len(stages.tableau.c)
    return [like_parts(stages.slopes, tuple(k[i, ...] for k in parts(stages.slopes))) for i in range(count)]
