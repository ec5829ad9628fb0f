"""How much worse than the plain model's a validation metric may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from solvertap.errors import InvalidInputError


@dataclass(frozen=True)
class Allowance:
    """An allowance.

    Attributes:
        allowed: how much.
        unit: whether that is in the unit of the metric ("points") or a share of the plain model's metric.
    """

    allowed: float
    unit: Literal["points", "share"]

    @classmethod
    def of(cls, text: str) -> Allowance:
        """That of "0.5", in the unit of the metric, or of "1%", of the plain model's metric.

        Raises:
            InvalidInputError: it is no number, or less than 0.
        """
        number, percent, rest = text.strip().partition("%")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if rest or not 0 <= value < float("inf"):
            raise InvalidInputError(
                f"`--allowance` is {text!r}; give a number of 0 or more in the unit of the metric, as in `0.5`, or a "
                "share of the plain model's, as in `1%`."
            )
        return cls(value / 100, "share") if percent else cls(value, "points")
