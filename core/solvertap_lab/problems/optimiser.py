"""Which optimiser trains a problem, in every framework the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

from solvertap.errors import InvalidInputError

Kind = Literal["adam", "adamax", "momentum"]


@dataclass(frozen=True)
class Optimiser:
    """Adam, AdaMax, or gradient descent with a momentum of 0.9.

    Attributes:
        kind: "adam", "adamax" or "momentum".
        rate: the learning rate.
        decay: the rate is divided by 1 + decay k at step k (Flux's `InvDecay`).
    """

    kind: Kind
    rate: float
    decay: float = 0.0

    @classmethod
    def of(cls, text: str) -> Optimiser:
        """The one of "NAME=RATE".

        Raises:
            InvalidInputError: there is no such optimiser, or the rate is not a positive number.
        """
        name, _, given = text.partition("=")
        try:
            rate = float(given)
        except ValueError:
            rate = 0.0
        if name not in get_args(Kind) or not 0 < rate < float("inf"):
            raise InvalidInputError(
                f"`--optimiser` is {text!r}; give adam=RATE, adamax=RATE or momentum=RATE with a positive rate, as in "
                "`adam=0.003`."
            )
        return cls(cast(Kind, name), rate)
