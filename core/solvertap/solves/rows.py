"""The rows of a trace: that of one attempted step, and those of a traced loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from array_api_compat import device

from ..errors import NoEstimateError, NoToleranceError
from ..steps.arrays import Array, array_namespace, parts, real_dtype
from ..steps.groups import Groups, Squares
from ..steps.local_error import scaled_error, size_of
from ..steps.step import Step
from ..steps.stiffness import stiffness

WithRow = Callable[[Array, Array, Array], Array]


class TraceRow(NamedTuple):
    """The row of one attempted step: constants, without gradient; see `Trace`. Squares not asked for are empty."""

    t: Array
    h: Array
    local_error: Array
    stiffness: Array
    accepted: Array
    sample_squares: Array | tuple[()] = ()
    part_squares: Array | tuple[()] = ()


def trace_row(step: Step, constant: Callable[[Array], Array], groups: Groups | None = None) -> TraceRow:
    """The row of one step. An estimate the solver does not make is a NaN; an error without a tolerance is unscaled.

    That of a batch has one entry for each sample.

    Args:
        step: the step.
        constant: `Framework.constant`.
        groups: among whom the error is shared, `Solve.groups`.

    Raises:
        NoEstimateError: the error is to be shared, and the step has the size of its error alone.
    """
    like = parts(step.y1)[0]
    xp = array_namespace(like)
    scalar = xp.zeros(like.shape[: step.stack_ndim], dtype=real_dtype(like), device=device(like))
    try:
        scaled = scaled_error(step)
    except NoToleranceError:
        scaled = scaled_error(step, scale="raw")
    except NoEstimateError:
        scaled = None
    error = scalar + float("nan") if scaled is None else size_of(scaled, step)
    try:
        stiff = stiffness(step)
    except NoEstimateError:
        stiff = scalar + float("nan")
    row = TraceRow(constant(step.t0), constant(step.h), constant(error), constant(stiff), step.accepted)
    if groups is None:
        return row
    if scaled is None:
        if groups.asked:
            _refuse_size_alone(step)
        squares = tuple(() if n is None else xp.stack([scalar + float("nan")] * n, axis=-1) for n in groups.counts)
    else:
        squares = groups.squares(tuple(map(constant, scaled)), step.stack_ndim)
    return TraceRow(*row[:5], *squares)


def with_row(table: Array, n: Array, row: Array) -> Array:
    """The table with the n-th row replaced; the same table where it has no such row."""
    xp = array_namespace(table)
    here = xp.arange(table.shape[0]) == n
    return xp.where(xp.reshape(here, (-1, *(1,) * (table.ndim - 1))), row, table)


class Tables:
    """How an array library keeps the table of a traced loop; the default serves every library."""

    def with_row(self, table: Array, n: Array, row: Array) -> Array:
        """The table with its n-th row replaced, or the same one where it has no such row."""
        return with_row(table, n, row)


class TraceBuffer(NamedTuple):
    """A trace of bounded length for a traced loop, which cannot grow a list."""

    rows: TraceRow
    length: Array

    @classmethod
    def start(cls, like: Array, capacity: int, groups: Groups | None = None) -> TraceBuffer:
        """An empty buffer of `capacity` rows, on the device and in the real dtype of a state."""
        xp = array_namespace(like)
        column = xp.zeros((capacity,), dtype=real_dtype(like), device=device(like))
        squares: Squares = ()
        if groups is not None:
            shapes = [() if n is None else (groups.rows(capacity, n), n) for n in groups.counts]
            squares = tuple([shape and xp.zeros(shape, dtype=column.dtype, device=device(like)) for shape in shapes])
        return cls(TraceRow(column, column, column, column, column > 0, *squares), 0)

    def append(self, row: TraceRow, with_row: WithRow = with_row) -> TraceBuffer:
        """The buffer with one more row; rows beyond the capacity are dropped, and still counted.

        Args:
            row: of the attempt.
            with_row: `Framework.with_row`.
        """
        xp = array_namespace(self.rows.h)
        tables = [
            () if isinstance(table, tuple) else with_row(table, self.length, xp.asarray(value, dtype=table.dtype))
            for table, value in zip(self.rows, row, strict=True)
        ]
        return TraceBuffer(TraceRow(*tables), self.length + 1)


def _refuse_size_alone(step: Step) -> None:
    if step.error_ratio is not None:
        raise NoEstimateError(
            "`observe(by=...)` was asked of a solver that shows the size of its error (`error_ratio`), and not "
            "whose it is. Let its adapter hand over `error` or `y1_embedded`, or leave `by` out."
        )
