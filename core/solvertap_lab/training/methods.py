"""The methods of `solvertap compare`: which terms, with which weights over the epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from solvertap import LocalError, LocalSample, anneal
from solvertap.errors import InvalidInputError, UnknownNameError
from solvertap.plugins.registry import plugins
from solvertap.terms.term import NamedTerm

from ..problems.problem import Problem

VANILLA = "vanilla"
BUILTIN = ("vanilla", "local-error", "stiffness", "both")
RIVALS: dict[str, tuple[tuple[float, float], ...]] = {
    # Of each value, the weight at the first and after the last epoch. Pal21's for TayNODE; RNODE's own.
    "taynode-2": ((3.02e-3, 3.02e-3),),
    "taynode-3": ((3.02e-3, 3.02e-3),),
    "rnode": ((0.01, 0.01), (0.01, 0.01)),
    "steer": (),
}
"""What other papers train with in the place of terms; the module `rivals` computes them."""

LOCAL: dict[str, NamedTerm] = {
    "local-unbiased": LocalSample(LocalError(), draw="uniform"),
    "local-biased": LocalSample(LocalError(), draw="steps"),
}
"""Pal23's terms. Its weights are 2.5 at the first and 1 after the last epoch."""


@dataclass(frozen=True)
class Method:
    """A penalty and its weights.

    Attributes:
        name: as on the command line, the weight included where one is given there.
        terms: the penalized terms, none for the plain model and for a rival.
        starts, stops: the weight of each, or of each value of a rival, at the first and after the last epoch.
        rival: which one, if any.
    """

    name: str
    terms: tuple[NamedTerm, ...] = ()
    starts: tuple[float, ...] = ()
    stops: tuple[float, ...] = ()
    rival: str | None = None

    def weights(self, epoch: int, epochs: int) -> tuple[float, ...]:
        """The weights in an epoch."""
        pairs = zip(self.starts, self.stops, strict=True)
        return tuple(anneal(start, stop, epochs)(epoch) for start, stop in pairs)

    def penalty(self) -> str:
        """What is added to the loss, in words: two methods of one name may differ in it."""
        weights = [f"{start:g}:{stop:g}" for start, stop in zip(self.starts, self.stops, strict=True)]
        if not self.terms:
            return " ".join(weights)
        return " + ".join(f"{weight} {term!r}" for weight, term in zip(weights, self.terms, strict=True))


def choose_method(
    text: str, problem: Problem, error_weight: str | None = None, stiffness_weight: str | None = None
) -> Method:
    """A method by name, with the papers' weights or the given ones.

    Args:
        text: one of `BUILTIN`, `LOCAL`, `RIVALS`, or the name of a term that a plugin brings, whose weight is its own;
            "NAME=WEIGHT" or "NAME=START:STOP" puts another in its place, before which the other two count for nothing.
        problem: whose presets hold the paper's weights.
        error_weight, stiffness_weight: "WEIGHT" or "START:STOP", in the place of the paper's.

    Raises:
        UnknownNameError: there is no such method.
        InvalidInputError: a weight is not a positive number, the method has none, or it cannot train the problem.
    """
    name, equals, weight = text.partition("=")
    span = _weight(weight, text) if equals else None
    if span and (name == VANILLA or RIVALS.get(name) == ()):
        raise InvalidInputError(f"`--method {text}` gives a weight to {name!r}, which has none; leave {weight!r} out.")
    if name == VANILLA:
        return Method(name)
    if name in RIVALS:
        if problem.stochastic:
            known = ", ".join((*BUILTIN, *LOCAL))
            raise InvalidInputError(
                f"`--method {text}` trains ODEs, and {problem.name!r} is an SDE; the choices are: {known}."
            )
        return _method(text, (), [span or default for default in RIVALS[name]], name)
    weighted, default = _terms(name, problem)
    given = {
        "local_error": _weight(error_weight, "--error-weight"),
        "stiffness": _weight(stiffness_weight, "--stiffness-weight"),
    }
    start, stop = span or default
    spans = [(not span and given.get(term.name)) or (w * start, w * stop) for w, term in weighted]
    return _method(text, tuple(term for _, term in weighted), spans)


def _terms(name: str, problem: Problem) -> tuple[tuple[tuple[Any, NamedTerm], ...], tuple[float, float]]:
    if name in problem.presets:
        preset = problem.presets[name]
        return preset.term.pairs(), (preset.start, preset.stop)
    if name in LOCAL:
        return LOCAL[name].pairs(), (2.5, 1.0)
    if name.replace("-", "_") in plugins().terms:
        return plugins().terms[name.replace("-", "_")].pairs(), (1.0, 1.0)
    known = [*BUILTIN, *LOCAL, *RIVALS, *sorted(set(plugins().terms) - {"local_error", "stiffness"})]
    raise UnknownNameError.of("method or term", name, known)


def _method(
    name: str, terms: tuple[NamedTerm, ...], spans: Sequence[tuple[float, float]], rival: str | None = None
) -> Method:
    return Method(name, terms, tuple(start for start, _ in spans), tuple(stop for _, stop in spans), rival)


def _weight(text: str | None, option: str) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(":")]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not all(0 < value < float("inf") for value in values):
        raise InvalidInputError(
            f"The weight {text!r} of `{option}` is no positive number; give one, as in `10`, or two, as in `100:10`."
        )
    return values[0], values[-1]
