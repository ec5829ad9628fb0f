"""Checks of what an adapter gives to a solve: the first step of a Python loop, every one on request, each traced one.

They look at shapes and types alone, so that nothing waits for a device.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, TypeVar

from .arrays import Array, State, parts
from .entries import check_attempted, check_each, check_scalar, does_not_fit
from .stages import Stages
from .step import Step, Steps

T = TypeVar("T")
Shapes = list[Any] | tuple[Any, ...]
VARIABLE = "SOLVERTAP_CHECK_STEPS"

_asked_for = os.environ.get(VARIABLE, "") not in ("", "0")
_every_step: ContextVar[bool] = ContextVar("solvertap_every_step", default=_asked_for)
checks_every_step: Callable[[], bool] = _every_step.get


@contextmanager
def every_step() -> Iterator[None]:
    """A block in which every step of a Python loop is checked, as in a process with `SOLVERTAP_CHECK_STEPS=1`."""
    token = _every_step.set(True)
    try:
        yield
    finally:
        _every_step.reset(token)


def check_step(step: Step, adapter: str, like: Shapes | None = None, batch: int | None = None) -> Shapes:
    """Looks at the types and shapes of one step.

    Args:
        step: the step.
        adapter: the name of the adapter.
        like: the shapes of a state of the solve, where they are known.
        batch: how many samples take steps of their own, where a batch was opened.

    Returns:
        Those of this step.

    Raises:
        StepError: something does not fit.
    """
    if not isinstance(step, Step) or isinstance(step, Steps):
        does_not_fit(adapter, f"handed over a `{type(step).__name__}`", "it is one `Step` for each attempted step")
    check_each(step.t0, "t0", adapter, batch)
    check_each(step.t1, "t1", adapter, batch)
    if step.accepted is not None and not isinstance(step.accepted, bool):
        check_each(step.accepted, "accepted", adapter, batch)
    if step.attempted is not True:
        check_attempted(step.attempted, adapter, batch)
    shapes = state_shapes(step.y1, "y1", adapter)
    if like is not None and shapes != like:
        wanted = f"the state of its solve, by `open_solve(like=...)` or the first step, is of shape {text(like)}"
        does_not_fit(adapter, f"handed over y1 of shape {text(shapes)}", wanted)
    _check_alike(step.y0, "y0", shapes, adapter)
    if step.error is not None:
        _check_alike(step.error, "error", shapes, adapter)
    if step.y1_embedded is not None:
        _check_alike(step.y1_embedded, "y1_embedded", shapes, adapter)
    if step.error_ratio is not None:
        check_each(step.error_ratio, "error_ratio", adapter, batch)
        if step.norm is not None:
            does_not_fit(adapter, "handed over a step with `error_ratio` and a `norm`", "give the one or the other")
    for name, tolerance in (("rtol", step.rtol), ("atol", step.atol)):
        if tolerance is not None and not isinstance(tolerance, float):
            _check_tolerance(tolerance, name, shapes, adapter)
    if step.stages is not None:
        _check_stages(step.stages, shapes, adapter)
    return shapes


def check_values(step: Step, adapter: str) -> None:
    """Looks at the numbers of a step whose values are known: this waits for a device, and is done on request alone.

    Raises:
        StepError: it has no length.
    """
    if getattr(step.t0, "ndim", 0):  # of a batch: a sample that begins at its end makes such a step
        return
    if bool(step.t0 == step.t1):
        does_not_fit(adapter, f"handed over a step from t0 = {float(step.t0)} to the same time", "a step has a length")


def fixed_times(step: Step, constant: Any) -> Step:
    """The step with times that carry no gradient. Of torch's tensors those that do say so themselves."""
    t0, t1 = step.t0, step.t1
    if getattr(t1, "requires_grad", None) is False and getattr(t0, "requires_grad", None) is False:
        return step
    fixed = [constant(t) if hasattr(t, "dtype") else t for t in (t0, t1)]
    if fixed[0] is t0 and fixed[1] is t1:
        return step
    return replace(step, t0=fixed[0], t1=fixed[1])


def scalars(values: Mapping[T, Array], step: Step, adapter: str, wanted: tuple[int, ...] = ()) -> dict[T, Array]:
    """Values that were measured on one step, each of which must be a scalar, or of a batch one for each sample.

    Raises:
        StepError: one is not, because of the norm of the step or the function of the term.
    """
    for term, value in values.items():
        shape = getattr(value, "shape", ())
        if shape != wanted:
            norm = "" if step.norm is None else ", or the `norm` of the step"
            name = getattr(term, "name", term)
            does_not_fit(
                adapter,
                f"has a step on which the term {name!r} measures an array of shape {tuple(shape)}",
                f"the function of the term{norm} returns one real number",
            )
    return dict(values)


def state_shapes(state: State, name: str, adapter: str) -> Shapes:
    """The shape of every part of a state: a tuple of them where it is a tuple, else a list of one.

    Raises:
        StepError: it is no state.
    """
    if not isinstance(state, tuple):
        shape = getattr(state, "shape", None)
        if shape is not None:
            return [shape]
    found = [getattr(x, "shape", None) for x in parts(state)]
    if None in found or not found:
        wanted = "a state is an array or a tuple of them"
        does_not_fit(adapter, f"handed over {name} of type `{type(state).__name__}`", wanted)
    return tuple(found)


def _check_alike(state: State, name: str, wanted: Shapes, adapter: str) -> None:
    found = state_shapes(state, name, adapter)
    if found != wanted:
        does_not_fit(adapter, f"handed over {name} of shape {text(found)}", f"it is like y1, {text(wanted)}")


def _check_tolerance(tolerance: Any, name: str, shapes: Shapes, adapter: str) -> None:
    shape = getattr(tolerance, "shape", ())
    if shape == ():
        return
    if any(not _fits(tuple(shape), tuple(state)) for state in shapes):
        wanted = f"it is a scalar, or fits y1, {text(shapes)}"
        does_not_fit(adapter, f"handed over {name} of shape {tuple(shape)}", wanted)


def _fits(shape: tuple[int, ...], state: tuple[int, ...]) -> bool:
    if len(shape) > len(state):
        return False
    return all(a in (1, b) for a, b in zip(reversed(shape), reversed(state), strict=False))


def _check_stages(stages: Stages, shapes: Shapes, adapter: str) -> None:
    count, slopes = len(stages.tableau.c), stages.slopes
    found: Any
    if isinstance(slopes, list):
        fits = len(slopes) == count
        found = "" if fits else f"{len(slopes)} slopes"
        for slope in slopes if fits else ():
            alike = [getattr(slope, "shape", None)] == shapes  # a state of one array, as most are
            if not alike and (shape := state_shapes(slope, "a slope", adapter)) != shapes:
                fits, found = False, f"a slope of shape {text(shape)}"
    else:
        stacked = state_shapes(slopes, "slopes", adapter)
        fits = stacked == type(shapes)((count, *shape) for shape in shapes)
        found = "" if fits else f"slopes of shape {text(stacked)}"
    if not fits:
        wanted = f"the tableau has {count} stages, each like y1, {text(shapes)}; an array has them along its first axis"
        does_not_fit(adapter, f"handed over {found}", wanted)
    check_scalar(stages.unit, "the unit of the slopes", adapter)


def text(shapes: Shapes) -> str:
    """The shapes of a state, for a sentence."""
    texts = [str(tuple(shape)) for shape in shapes]
    return f"({', '.join(texts)}), a tuple" if isinstance(shapes, tuple) else texts[0]
