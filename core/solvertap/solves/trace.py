"""The trace of a solve: one row for every attempted step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from array_api_compat import array_namespace, device, is_numpy_array

from ..errors import InvalidInputError, MissingExtraError, NoEstimateError, NoToleranceError
from ..steps.arrays import Array, parts, real_dtype
from ..steps.local_error import local_error
from ..steps.step import Step
from ..steps.stiffness import stiffness

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure


class TraceRow(NamedTuple):
    """The row of one attempted step: constants, without gradient."""

    t: Array
    h: Array
    local_error: Array
    stiffness: Array
    accepted: Array


def trace_row(step: Step, constant: Callable[[Array], Array]) -> TraceRow:
    """The row of one step. An estimate the solver does not make is a NaN; an error without a tolerance is unscaled.

    That of a batch has one entry for each sample.
    """
    like = parts(step.y1)[0]
    xp = array_namespace(like)
    scalar = xp.zeros(like.shape[: step.stack_ndim], dtype=real_dtype(like), device=device(like))
    try:
        error = local_error(step)
    except NoToleranceError:
        error = local_error(step, scale="raw")
    except NoEstimateError:
        error = scalar + float("nan")
    try:
        stiff = stiffness(step)
    except NoEstimateError:
        stiff = scalar + float("nan")
    return TraceRow(constant(step.t0), constant(step.h), constant(error), constant(stiff), step.accepted)


class TraceBuffer(NamedTuple):
    """A trace of bounded length for a traced loop, which cannot grow a list."""

    rows: TraceRow
    length: Array

    @classmethod
    def start(cls, like: Array, capacity: int) -> TraceBuffer:
        """An empty buffer of `capacity` rows, on the device and in the real dtype of a state."""
        xp = array_namespace(like)
        column = xp.zeros((capacity,), dtype=real_dtype(like), device=device(like))
        return cls(TraceRow(column, column, column, column, column > 0), 0)

    def append(self, row: TraceRow) -> TraceBuffer:
        """The buffer with one more row; rows beyond the capacity are dropped, and still counted."""
        xp = array_namespace(self.rows.h)
        here = xp.arange(self.rows.h.shape[0]) == self.length

        def put(column: Array, value: Array) -> Array:
            return xp.where(here, xp.asarray(value, dtype=column.dtype), column)

        columns = [put(column, value) for column, value in zip(self.rows, row, strict=True)]
        return TraceBuffer(TraceRow(*columns), self.length + 1)


class Trace(NamedTuple):
    """Every attempted step of one solve, in order. Each attribute is an array of shape (n,), without gradient.

    A named tuple, so that a transformed function can return it. Of a batch, whose samples take steps of their own, and
    returned from `jax.vmap`, its arrays have the batch before them; `samples` takes them apart.

    Attributes:
        t: where the step starts.
        h: its signed size.
        local_error: E, scaled by the tolerance where the solve has one; NaN where the solver estimates none.
        stiffness: S; NaN where the solver has no estimate.
        accepted: whether the solver accepted the step.
        length: how many leading entries count: all of them, unless the solve ran in a JAX loop, where the
            arrays have a fixed size, or is of a batch, where they are as long as the longest.
    """

    t: Array
    h: Array
    local_error: Array
    stiffness: Array
    accepted: Array
    length: Any

    @classmethod
    def of_rows(cls, rows: Sequence[TraceRow], to_numpy: Callable[[Array], Any]) -> Trace:
        """A trace from the rows of a Python loop, on the host."""
        if not rows:
            import numpy as np

            none = np.zeros(0)
            return cls(none, none, none, none, none > 0, 0)
        t, h, error, stiff, accepted = (_column(values, to_numpy) for values in zip(*rows, strict=True))
        return cls(t, h, error, stiff, accepted, len(rows))

    @classmethod
    def of_batch(
        cls, rows: Sequence[TraceRow], attempted: Sequence[Array], to_numpy: Callable[[Array], Any], batch: int
    ) -> Trace:
        """A trace from the rows of a batch, and which samples attempted each; a sample's own rows come first."""
        import numpy as np

        if not rows:
            none = np.zeros((batch, 0))
            return cls(none, none, none, none, none > 0, np.zeros(batch, dtype=int))
        tried, *columns = (
            np.broadcast_to(np.reshape(_column(values, to_numpy), (len(rows), -1)), (len(rows), batch))
            for values in (attempted, *zip(*rows, strict=True))
        )
        order = np.argsort(~tried, axis=0, kind="stable")
        t, h, error, stiff, accepted = (np.take_along_axis(column, order, axis=0).T for column in columns)
        return cls(t, h, error, stiff, accepted, tried.sum(0))

    @classmethod
    def of_buffer(cls, buffer: TraceBuffer) -> Trace:
        """A trace from the buffer of a traced loop."""
        return cls(*buffer.rows, buffer.length)

    def samples(self) -> list[Trace]:
        """The trace of each sample of a batch, in order; of one solve, this trace alone."""
        import numpy as np

        lengths = np.asarray(self.length)
        if lengths.ndim == 0:
            return [self]
        columns = [np.asarray(column).reshape(lengths.size, -1) for column in self[:-1]]
        pairs = zip(*columns, lengths.reshape(-1), strict=True)
        return [Trace(*row) for row in pairs]

    def numpy(self) -> dict[str, np.ndarray[Any, Any]]:
        """The columns as NumPy arrays of the trace's true length. Outside transformations only.

        Raises:
            InvalidInputError: the trace is one of a batch.
        """
        import numpy as np

        if np.ndim(self.length) > 0:
            raise InvalidInputError(
                f"This trace is of a batch of shape {np.shape(self.length)}, whose samples took different steps; "
                "read one of `trace.samples()`."
            )
        length = min(int(self.length), len(self.t))
        return {name: np.asarray(getattr(self, name))[:length] for name in TraceRow._fields}

    def plot(self) -> Figure:
        """Step size, local error and stiffness along the solve, of each sample; rejected steps are hollow.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        try:
            from .figure import plot_trace
        except ModuleNotFoundError as error:
            raise MissingExtraError.of("matplotlib", "cli") from error
        traces = self.samples()
        return plot_trace({f"sample {i}" if traces[1:] else "": trace.numpy() for i, trace in enumerate(traces)})


def _column(values: Sequence[Array], to_numpy: Callable[[Array], Any]) -> Any:
    # One transfer for a column instead of one for each value.
    if hasattr(values[0], "dtype") and not is_numpy_array(values[0]):
        return to_numpy(array_namespace(values[0]).stack(list(values)))
    import numpy as np

    return np.asarray(values)
