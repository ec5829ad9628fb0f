"""What a solver did between two times: the one thing that an adapter gives to a solve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from array_api_compat import device, to_device

from .arithmetic import over_elements, where_finite
from .arrays import Array, State, array_namespace, like_parts, parts, real_dtype
from .stages import Stages


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Step:
    """One attempted step from t0 to t1.

    Whatever carries gradient in the framework carries it here: `y0`, `y1`, `error`, `stages`. Times do not:
    a solve makes constants of `t0` and `t1`, so that no gradient goes through the step-size controller
    (docs/held_fixed.md). Shapes are written as in jaxtyping, whatever library the arrays are of:
    `Float[Array, ""]` is a real scalar, `Inexact[Array, "*state"]` real or complex, of the shape of the state.

    Attributes:
        t0, t1: start and end in the user's own time, `Float[Array, ""]`; t1 < t0 for a solve backwards in time.
        y0: the state at t0, `Inexact[Array, "*state"]`, or a tuple of such where it has several parts. Shape and
            structure are the solver's; every other state has the same.
        y1: the state at t1, were the step accepted.
        error: y1 minus the solver's second solution at t1, unscaled; its sign is not relied on.
        error_ratio: what the solver has compared with 1, where it shows it, `Float[Array, ""]`: a constant, through
            which nothing is differentiated. `norm` must be None then.
        y1_embedded: that second solution. One of the two may be left out, both where there is no estimate.
        rtol, atol: the tolerances of the solve, `Float[Array, ""]`; None where it has none.
        norm: maps a state to the `Float[Array, ""]` that the solver compares with 1; None for the root mean square.
        doubled: whether one of the two is the step taken whole, the other in two halves.
        stages: the slopes that the solver has evaluated anyway; None where it does not show them.
        field: maps (t, y) to the slope (the drift, for an SDE) at an extra cost of one evaluation; None where
            the solver has none.
        stability_size: the largest h |lambda| on the negative axis for which the method is stable; None where
            it is not known or not bounded.
        accepted: whether the solver kept the step: a bool, or a `Bool[Array, ""]` while a loop is traced; None
            where the loop decides that later, and discards the carry of a rejected step.
        attempted: which samples of a batch attempted a step at all, `Bool[Array, "batch"]`; True for all. A sample
            that is at its end is neither accepted nor rejected.

    In a solve of a batch, whose samples take steps of their own, every array has the batch along its first axis: a
    state is an `Inexact[Array, "batch *sample"]`, the times and `error_ratio` are `Float[Array, "batch"]`, `accepted`
    is a `Bool[Array, "batch"]`, and `field` and `norm` are those of the whole batch.
    """

    stack_ndim: ClassVar[int] = 0
    """How many axes stand before those of the state; see `Steps`."""

    t0: Array
    t1: Array
    y0: State
    y1: State
    error: State | None = None
    error_ratio: Array | None = None
    y1_embedded: State | None = None
    doubled: bool = False
    rtol: Array | None = None
    atol: Array | None = None
    norm: Callable[[State], Array] | None = None
    stages: Stages | None = None
    field: Callable[[Array, State], State] | None = None
    stability_size: float | None = None
    accepted: Any = True
    attempted: Any = True

    @property
    def h(self) -> Array:
        """The signed step size t1 - t0, `Float[Array, ""]`."""
        return self.t1 - self.t0


class Steps(Step):
    """Several steps stacked to be measured together. No adapter makes them.

    Every array has the steps along its first axis, and a measure has one value for each. They are steps of one solve,
    which a framework stacks for terms that have their derivative written out, or those of the samples of a batch.
    """

    __slots__ = ()
    stack_ndim: ClassVar[int] = 1

    @classmethod
    def of(cls, first: Step, **arrays: Any) -> Steps:
        """Steps with these arrays; everything else is that of the first step."""
        return cls(**{field.name: getattr(first, field.name) for field in fields(Step)} | arrays)


def guarded(step: Step) -> tuple[Step, Array]:
    """The step with harmless numbers where one of its states is not finite, and whether all of them were.

    A traced loop measures every attempt and discards the rejected ones by `where`, whose derivative is zero
    times that of the measure. At an infinite error, which diffrax gives an implicit step that did not converge,
    that would be zero times infinity: a NaN in the gradient of a solve that went well.
    """
    xp = array_namespace(parts(step.y1)[0])
    states = [step.y0, step.y1, *(x for x in (step.error, step.y1_embedded) if x is not None)]
    finite = xp.asarray(True)
    for state in states:
        for x in parts(state):
            finite = finite & over_elements("all", xp.isfinite(x), step.stack_ndim)

    def clean(state: State | None, instead: float) -> State | None:
        if state is None:
            return None
        return like_parts(state, tuple(where_finite(finite, x, instead) for x in parts(state)))

    harmless = replace(
        step,
        y0=clean(step.y0, 1.0),
        y1=clean(step.y1, 1.0),
        error=clean(step.error, 0.0),
        y1_embedded=clean(step.y1_embedded, 1.0),
        stages=None if step.stages is None else replace(step.stages, finite=finite),
    )
    return harmless, finite


def step_size(step: Step) -> Array:
    """|t1 - t0| as a scalar of the measures' own dtype, so that float64 times do not widen a float32 penalty."""
    return abs(signed_step_size(step))


def step_sizes(steps: Sequence[Step]) -> Array:
    """The step sizes of m steps of one solve, of shape (m,); of one step, a scalar."""
    first, *others = steps
    if not others:
        return step_size(first)
    like = parts(first.y1)[0]
    xp = array_namespace(like)
    where = device(like)
    if isinstance(first.t0, int | float):
        return abs(xp.asarray([step.h for step in steps], dtype=real_dtype(like), device=where))
    t0, t1 = (xp.stack([getattr(step, name) for step in steps]) for name in ("t0", "t1"))
    h = xp.astype(t1 - t0, real_dtype(like), copy=False)
    return abs(h if device(h) == where else to_device(h, where))


def signed_step_size(step: Step) -> Array:
    """t1 - t0 as a scalar of the same dtype as `step_size`."""
    like = parts(step.y1)[0]
    return array_namespace(like).asarray(step.h, dtype=real_dtype(like))
