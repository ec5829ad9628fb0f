"""What rides through a traced loop: all that a solve counts, sums, draws and traces."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Any, NamedTuple

from array_api_compat import device

from ..steps.arrays import Array, State, array_namespace, like_parts, parts
from ..steps.checking import check_step, fixed_times
from ..steps.entries import does_not_fit
from ..steps.groups import Groups
from ..steps.step import Step
from .extra_step import ExtraStep
from .fold import Carry, Fold
from .framework import Framework
from .grid import Grid, with_step
from .replay import Replay
from .reservoir import RandomSource, Reservoir
from .rows import TraceBuffer, trace_row
from .trace import Trace

_SOME: Any = 0.0  # in place of an end that rides in the carry


class Ridden(NamedTuple):
    """The carry of a ride: arrays of fixed shape and dtype, no None among them.

    Attributes:
        accepted, rejected: how many steps were.
        totals: a scalar for each term.
        reservoirs: for each kind of draw the step that would be drawn if the solve ended here.
        trace: the rows so far; empty where no trace is requested.
        source: the arrays that the random numbers of the solve are made of, and its end, where it is known.
        grid: what is noted of each accepted step, for a replay; empty where there is none.
    """

    accepted: Array
    rejected: Array
    totals: tuple[Array, ...]
    reservoirs: tuple[Reservoir, ...]
    trace: TraceBuffer | tuple[()]
    source: tuple[Array, ...]
    grid: Grid


class Ride:
    """The part of a solve that rides through a traced loop, such as `lax.while_loop` or `lax.scan`.

        ride = solve.ride(y0, capacity=100)
        carry = ride.carry                  # the loop starts with it
        carry = ride.update(carry, step)    # in the loop, for every attempt; `step.accepted` may be traced
        solve.finish(ride, carry)           # with what comes out of the loop

    Attributes:
        carry: before the first step.
    """

    def __init__(
        self,
        fold: Fold,
        like: State,
        framework: Framework,
        extra_step: ExtraStep | None,
        rows: int,
        grid: Grid = (),
        groups: Groups | None = None,
    ) -> None:
        self._fold = fold
        self._constant = framework.constant
        self._with_row = framework.with_row
        self._groups = groups
        self._numbers = None if extra_step is None else extra_step.source
        self.carry: Ridden = self._start(like, rows, grid)

    def update(self, carry: Ridden, step: Step, accepted: Any = None, noted: Grid = ()) -> Ridden:
        """The carry after one more attempted step.

        Args:
            carry: so far.
            step: the attempt.
            accepted: whether it was accepted, a boolean that may be traced; by default `step.accepted`.
            noted: scalars from which a replay takes the step again; see `Solve.ride`.

        Raises:
            StepError: something does not fit.
        """
        fold = self._fold
        if not isinstance(carry, Ridden):
            does_not_fit(fold.adapter, f"has {carry!r} for a carry", "thread `ride.carry` through `ride.update`")
        step = step if accepted is None else replace(step, accepted=accepted)
        if step.accepted is None:
            does_not_fit(
                fold.adapter, "does not say whether a step was accepted", "a ride has to know; it may be traced"
            )
        check_step(step, fold.adapter)
        step = fixed_times(step, self._constant)
        if fold.on_step is not None:
            fold.on_step(step)
        xp = array_namespace(carry.accepted)
        kept = xp.asarray(step.accepted)
        step = replace(step, t0=xp.asarray(step.t0), t1=xp.asarray(step.t1))
        # As of an attempt that may yet be rejected: it is measured with harmless numbers where it is not finite.
        totals = fold.add(carry.totals, (replace(step, accepted=kept),))
        before = Carry(carry.accepted, carry.rejected, carry.totals, carry.reservoirs)
        reservoirs = fold.keep(before, step, self._source(carry))
        trace = carry.trace
        if isinstance(trace, TraceBuffer):
            row = trace_row(replace(step, accepted=kept), self._constant, self._groups)
            trace = trace.append(row, self._with_row)
        return Ridden(
            carry.accepted + xp.where(kept, 1, 0),
            carry.rejected + xp.where(kept, 0, 1),
            _chosen(xp, kept, totals, carry.totals),
            _chosen(xp, kept, reservoirs, carry.reservoirs),
            trace,
            carry.source,
            with_step(fold.adapter, carry.grid, carry.accepted, kept, noted) if carry.grid else (),
        )

    def without_arrays(self) -> Ride:
        """The ride without its carry, for the static arguments of a compiled function, which outlive the solve.

        It updates the carry of this ride and of every ride that is equal to it.
        """
        kept = copy(self)
        del kept.carry
        if self._numbers is not None:
            numbers: Any = self._numbers.numbers
            if hasattr(numbers, "arrays"):
                numbers = numbers.of((None,) * len(numbers.arrays))
            kept._numbers = RandomSource(numbers, None if self._numbers.end is None else _SOME)
        return kept

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ride) and self._told_apart == other._told_apart

    def __hash__(self) -> int:
        return hash(self._told_apart)

    @property
    def _told_apart(self) -> tuple[Any, ...]:
        return self._fold, self._constant, self._numbers, self._groups

    def end(self, carry: Ridden, replay: Replay | None) -> tuple[Carry, Trace | None]:
        """What a solve ends with; its `replay` is given the steps."""
        if not isinstance(carry, Ridden):
            does_not_fit(self._fold.adapter, f"has {carry!r} for a carry", "give what came out of the loop to `finish`")
        if replay is not None:
            replay.grid = carry.grid, carry.accepted
        trace = Trace.of_buffer(carry.trace) if isinstance(carry.trace, TraceBuffer) else None
        return Carry(carry.accepted, carry.rejected, carry.totals, carry.reservoirs), trace

    def _start(self, like: State, rows: int, grid: Grid) -> Ridden:
        first = parts(like)[0]
        xp, where = array_namespace(first), device(first)
        zero = xp.zeros((), device=where)
        state = like_parts(like, tuple(map(self._constant, parts(like))))
        none = Reservoir(zero, zero, zero, state)
        trace: TraceBuffer | tuple[()] = ()
        if rows:
            trace = TraceBuffer.start(first, rows, self._groups)._replace(length=xp.asarray(0, device=where))
        return Ridden(
            xp.asarray(0, device=where),
            xp.asarray(0, device=where),
            self._fold.start(like).totals,
            (none,) * len(self._fold.kinds),
            trace,
            self._arrays(xp),
            grid,
        )

    def _arrays(self, xp: Any) -> tuple[Array, ...]:
        if self._numbers is None:
            return ()
        end = () if self._numbers.end is None else (xp.asarray(self._numbers.end),)
        return (*getattr(self._numbers.numbers, "arrays", ()), *end)

    def _source(self, carry: Ridden) -> RandomSource | None:
        if self._numbers is None:
            return None
        arrays = carry.source
        end = None if self._numbers.end is None else arrays[-1]
        numbers: Any = self._numbers.numbers
        if hasattr(numbers, "arrays"):  # they ride, for a loop may not close over an array
            numbers = numbers.of(arrays[: len(numbers.arrays)])
        return RandomSource(numbers, end)


def _chosen(xp: Any, kept: Array, new: Any, old: Any) -> Any:
    """Arrays in nested tuples: the new ones where `kept`, in the dtype of the old ones."""
    if isinstance(old, tuple):
        chosen = [_chosen(xp, kept, a, b) for a, b in zip(new, old, strict=True)]
        return type(old)(*chosen) if hasattr(old, "_fields") else tuple(chosen)
    return xp.astype(xp.where(kept, new, old), old.dtype, copy=False)
