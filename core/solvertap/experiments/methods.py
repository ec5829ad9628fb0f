"""The methods of `solvertap compare`: which terms, with which weights over the epochs."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InvalidInputError, UnknownNameError
from ..plugins import plugins
from ..schedules import anneal
from ..terms import StepTerm
from .problem import Problem

VANILLA = "vanilla"
BUILTIN = ("vanilla", "local-error", "stiffness", "both")


@dataclass(frozen=True)
class Method:
    """A penalty and its weights.

    Attributes:
        name: as on the command line.
        terms: the penalized terms, none for the plain model.
        starts, stops: the weight of each at the first and after the last epoch.
    """

    name: str
    terms: tuple[StepTerm, ...] = ()
    starts: tuple[float, ...] = ()
    stops: tuple[float, ...] = ()

    def weights(self, epoch: int, epochs: int) -> tuple[float, ...]:
        """The weights in an epoch."""
        pairs = zip(self.starts, self.stops, strict=True)
        return tuple(anneal(start, stop, epochs)(epoch) for start, stop in pairs)


def choose_method(
    name: str, problem: Problem, error_weight: str | None = None, stiffness_weight: str | None = None
) -> Method:
    """A method by name, with the paper's weights or the given ones.

    Args:
        name: one of `BUILTIN`, or the name of a term that a plugin brings, whose weight is its own.
        problem: whose presets hold the paper's weights.
        error_weight, stiffness_weight: "WEIGHT" or "START:STOP", in the place of the paper's.

    Raises:
        UnknownNameError: there is no such method.
        InvalidInputError: a weight is not a positive number.
    """
    given = {"local_error": _weight(error_weight), "stiffness": _weight(stiffness_weight)}
    if name == VANILLA:
        return Method(name)
    if name in problem.presets:
        preset = problem.presets[name]
        pairs = preset.term.pairs()
        spans = [given[term.name] or (w * preset.start, w * preset.stop) for w, term in pairs]
    elif name.replace("-", "_") in plugins().terms:
        pairs = plugins().terms[name.replace("-", "_")].pairs()
        spans = [given.get(term.name) or (w, w) for w, term in pairs]
    else:
        known = list(BUILTIN) + sorted(set(plugins().terms) - {"local_error", "stiffness"})
        raise UnknownNameError.of("method or term", name, known)
    starts, stops = zip(*spans, strict=True)
    return Method(name, tuple(term for _, term in pairs), starts, stops)


def _weight(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(":")]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not all(0 < value < float("inf") for value in values):
        raise InvalidInputError(
            f"The weight {text!r} is no positive number; give one, as in `10`, or two, as in `100:10`."
        )
    return values[0], values[-1]
