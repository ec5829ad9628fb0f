"""The trace of a solve: one row for every attempted step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from array_api_compat import array_namespace, is_numpy_array

from ..errors import InvalidInputError, MissingExtraError
from ..steps.arrays import Array
from ..steps.groups import BY, Groups
from .rows import TraceBuffer, TraceRow
from .shares import shares_of, worst_of

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure


class Trace(NamedTuple):
    """Every attempted step of one solve, in order. Each is a `Float[Array, "n"]` without gradient.

    A named tuple, so that a transformed function can return it. Of a batch, whose samples take steps of their own, and
    returned from `jax.vmap`, its arrays have the batch before them; `samples` takes them apart.

    Attributes:
        t: where the step starts.
        h: its signed size.
        local_error: E, scaled by the tolerance where the solve has one; NaN where the solver estimates none.
        stiffness: S; NaN where the solver has no estimate.
        accepted: whether the solver accepted the step, `Bool[Array, "n"]`.
        length: how many leading entries count: all of them, unless the solve ran in a JAX loop, where the
            arrays have a fixed size, or is of a batch, where they are as long as the longest.
        sample_squares, part_squares: with `observe(by=...)`, `Float[Array, "n groups"]`, the sums of the squares of
            the scaled error, error / (atol + rtol max(|y0|, |y1|)), over each sample or each part; NaN where the solver
            estimates none. `shares` has what they are of the whole. None where they were not asked for. A plugin that
            listens to `solvertap_solve_traced` gets them unasked where they are cheap, of a traced loop those of the
            first attempts, at most 64.
    """

    t: Array
    h: Array
    local_error: Array
    stiffness: Array
    accepted: Array
    length: Any
    sample_squares: Array | None = None
    part_squares: Array | None = None

    @classmethod
    def of_rows(cls, rows: Sequence[TraceRow], to_numpy: Callable[[Array], Any], groups: Groups | None = None) -> Trace:
        """A trace from the rows of a Python loop, on the host."""
        if not rows:
            return cls._empty((), groups)
        columns = [_column(values, to_numpy) for values in zip(*rows, strict=True)]
        return cls._with(columns, len(rows))

    @classmethod
    def of_batch(
        cls,
        rows: Sequence[TraceRow],
        attempted: Sequence[Array],
        to_numpy: Callable[[Array], Any],
        batch: int,
        groups: Groups | None = None,
    ) -> Trace:
        """A trace from the rows of a batch, and which samples attempted each; a sample's own rows come first."""
        import numpy as np

        if not rows:
            return cls._empty((batch,), groups)
        kinds = list(zip(*rows, strict=True))
        tried, *columns = (
            np.broadcast_to(np.reshape(_column(values, to_numpy), (len(rows), -1)), (len(rows), batch))
            for values in (attempted, *kinds[:5])
        )
        order = np.argsort(~tried, axis=0, kind="stable")
        columns = [np.take_along_axis(column, order, axis=0).T for column in columns]
        tables = [_column(values, to_numpy) for values in kinds[5:]]
        tables = [None if x is None else np.take_along_axis(x, order[..., None], axis=0).swapaxes(0, 1) for x in tables]
        return cls._with((*columns, *tables), tried.sum(0))

    @classmethod
    def of_buffer(cls, buffer: TraceBuffer) -> Trace:
        """A trace from the buffer of a traced loop."""
        return cls._with(buffer.rows, buffer.length)

    @classmethod
    def _with(cls, columns: Sequence[Any], length: Any) -> Trace:
        given = {name: x for name, x in zip(TraceRow._fields, columns, strict=True) if not isinstance(x, tuple)}
        return cls(**given, length=length)

    @classmethod
    def _empty(cls, batch: tuple[int, ...], groups: Groups | None) -> Trace:
        import numpy as np

        none = np.zeros((*batch, 0))
        counts = (None,) * len(BY) if groups is None else groups.counts
        tables = [None if n is None else np.zeros((*batch, 0, n)) for n in counts]
        return cls._with((none, none, none, none, none > 0, *tables), np.zeros(batch, dtype=int)[()])

    def samples(self) -> list[Trace]:
        """The trace of each sample of a batch, in order; of one solve, this trace alone."""
        import numpy as np

        lengths = np.asarray(self.length)
        if lengths.ndim == 0:
            return [self]
        names = [name for name, value in self._asdict().items() if value is not None]
        arrays = [np.asarray(getattr(self, name)) for name in names]
        columns = [x.reshape(lengths.size, *x.shape[lengths.ndim :]) for x in arrays]
        return [Trace(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]

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
        columns = {name: getattr(self, name) for name in TraceRow._fields}
        return {name: np.asarray(column)[:length] for name, column in columns.items() if column is not None}

    def shares(self, by: str | None = None) -> np.ndarray[Any, Any]:
        """The share of each sample, or part, in the squared scaled error of each attempt, `Float[Array, "n groups"]`.

        Under the default norm that is its share in E^2. Shares add up to 1. Where the error is zero, or not estimated,
        all have the same; where some of an attempt are not finite, those share equally. Outside transformations only.

        Args:
            by: "sample" or "part", where both were asked for.

        Raises:
            InvalidInputError: they were not asked for, or both were, or the trace is one of a batch.
        """
        return shares_of(self.numpy()[self._asked(by)])

    def worst(self, k: int, by: str | None = None) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """The k samples, or parts, with the largest shares, and those shares; the largest first.

        The mean of `shares` over the attempts, each of which counts by E^2, and at most by 1: of accepted steps it is
        the share in the sum of all their squared errors, and no rejected attempt outweighs them. Outside
        transformations only.

        Args:
            k: how many; all where there are fewer.
            by: as for `shares`.

        Raises:
            InvalidInputError: as for `shares`, or k is not 1 or more.
            NoEstimateError: the solver estimates no error.
        """
        columns = self.numpy()
        return worst_of(k, columns[self._asked(by)], columns["local_error"])

    def _asked(self, by: str | None) -> str:
        asked = [each for each in BY if getattr(self, f"{each}_squares") is not None]
        if by is None and len(asked) == 1:
            (by,) = asked
        if by in asked:
            return f"{by}_squares"
        if asked:
            names = " or ".join(f'`by="{each}"`' for each in asked)
            raise InvalidInputError(f"Of which shares was left open, or the trace has none of {by!r}; pass {names}.")
        raise InvalidInputError(
            'No shares were kept; ask for them with `observe(trace=True, by="sample")`, or `by="part"`.'
        )

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
    if isinstance(values[0], tuple):  # not asked for
        return None
    # One transfer for a column instead of one for each value.
    if hasattr(values[0], "dtype") and not is_numpy_array(values[0]):
        return to_numpy(array_namespace(values[0]).stack(list(values)))
    import numpy as np

    return np.asarray(values)
