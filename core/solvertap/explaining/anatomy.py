"""One solve, taken apart: its steps in NumPy, and what is the same for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..solves.trace import Trace
from ..steps.facts import Facts

if TYPE_CHECKING:
    import numpy as np

    Column = np.ndarray[Any, Any]

_SAFETY, _FASTEST = 0.9, 10.0  # of the step-size controllers of torchdiffeq and diffrax, by default


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One solve, taken apart. Arrays have an entry for each attempted step, in order.

    Attributes:
        t, h: where a step starts, and its signed size.
        local_error, stiffness: E and S; NaN where there is no estimate.
        accepted: whether the step was accepted.
        facts: what is the same for every step.
        length: how many steps were attempted. There may be more of them than entries.
        sample_squares, part_squares: as of `Trace`, maybe of the first attempts alone; None where there are none.
    """

    t: Column
    h: Column
    local_error: Column
    stiffness: Column
    accepted: Column
    facts: Facts
    length: int
    sample_squares: Column | None = None
    part_squares: Column | None = None

    @classmethod
    def of(cls, trace: Trace, facts: Facts) -> Anatomy:
        """That of a trace of one solve, outside of transformations."""
        return cls.of_columns(trace.numpy(), facts, int(trace.length))

    @classmethod
    def of_columns(cls, columns: Mapping[str, Column], facts: Facts, length: int | None = None) -> Anatomy:
        """That of the columns of a trace, as `Trace.numpy` gives them, and its length where that is another."""
        import numpy as np

        numbers = {name: np.asarray(columns[name], dtype=float) for name in ("t", "h", "local_error", "stiffness")}
        return cls(
            **numbers,
            accepted=np.asarray(columns["accepted"], dtype=bool),
            facts=facts,
            length=len(columns["h"]) if length is None else length,
            sample_squares=columns.get("sample_squares"),
            part_squares=columns.get("part_squares"),
        )

    @property
    def attempts(self) -> int:
        """Of how many attempted steps there are entries."""
        return len(self.h)

    @property
    def told(self) -> bool:
        """Whether no tolerance sets the steps: they are as long as the solver was told."""
        import numpy as np

        unbound = (self.facts.rtol is None and self.facts.atol is None) or bool(np.isnan(self.local_error).all())
        return unbound and bool(self.accepted.all())

    @cached_property
    def sizes(self) -> Column:
        """|h|."""
        return abs(self.h)

    @cached_property
    def stability(self) -> Column:
        """|h| S over the stability size of the method; NaN where one of the two is not known."""
        return self.sizes * self.stiffness / (self.facts.stability_size or float("nan"))

    @cached_property
    def retried_orders(self) -> Column:
        """The power of h with which E fell from each rejected step to its retry.

        On a smooth field it is near the order of the error estimate; where the field has a kink, or gives two answers,
        it is near one, or anything. Retries of less than a tenth of the step are left out: the field is another there.
        """
        import numpy as np

        rejected = np.flatnonzero(~self.accepted[:-1])
        first, again = self.local_error[rejected], self.local_error[rejected + 1]
        shrunk = self.sizes[rejected] / self.sizes[rejected + 1]
        fits = (first > 0) & (again > 0) & np.isfinite(first) & (shrunk > 1) & (shrunk <= 10 * _FASTEST)
        return np.log(first[fits] / again[fits]) / np.log(shrunk[fits])

    @cached_property
    def proposed(self) -> Column:
        """The size that a controller without memory would give to the step after each; NaN where it cannot be known."""
        import numpy as np

        if self.facts.error_order is None:
            return np.full(self.attempts, np.nan)
        with np.errstate(divide="ignore"):
            factor = _SAFETY * self.local_error ** (-1.0 / self.facts.error_order)
        return self.sizes * np.minimum(factor, _FASTEST)
