"""The methods of `solvertap compare`: which terms, with which weights over the epochs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from solvertap import PRESETS, LocalError, LocalSample, anneal, budget, parse_term
from solvertap.cli.budget_text import read_budget
from solvertap.errors import InvalidInputError, UnknownNameError
from solvertap.plugins.registry import plugins
from solvertap.terms.term import NamedTerm

from ..problems.problem import Problem
from .written import written

VANILLA, BUDGET = "vanilla", "budget"
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

# `:FIELD` before the last `=`: that one gives an option its value. The flags of `parse_term` have none.
_OPTION = re.compile(r":\s*(?!(?:sum|mean|max|replay)\s*$)[A-Za-z_]\w*\s*$")


@dataclass(frozen=True)
class Method:
    """A penalty and its weights.

    Attributes:
        name: as on the command line, the weight included where one is given there.
        terms: the penalized terms, none for the plain model and for a rival.
        starts, stops: the weight of each, or of each value of a rival, at the first and after the last epoch.
        rival: which one, if any.
        budget: what finds the weight of its terms, if it is not given.
    """

    name: str
    terms: tuple[NamedTerm, ...] = ()
    starts: tuple[float, ...] = ()
    stops: tuple[float, ...] = ()
    rival: str | None = None
    budget: budget | None = None

    def weights(self, epoch: int, epochs: int) -> tuple[float, ...]:
        """The weights in an epoch."""
        pairs = zip(self.starts, self.stops, strict=True)
        return tuple(anneal(start, stop, epochs)(epoch) for start, stop in pairs)

    def penalty(self) -> str:
        """What is added to the loss, in words: two methods of one name may differ in it."""
        if self.budget is not None:
            return f"{self.name}: {self.budget.cap:g} of the gradient at most*{written(self.terms[0])}"
        weights = [
            f"{start:g}" if start == stop else f"{start:g}:{stop:g}"
            for start, stop in zip(self.starts, self.stops, strict=True)
        ]
        if not self.terms:
            return " ".join(weights)
        return " + ".join(f"{weight}*{written(term)}" for weight, term in zip(weights, self.terms, strict=True))


def choose_method(text: str, problem: Problem) -> Method:
    """A method by its text, with its own weights or the given ones.

    Args:
        text: "vanilla"; "budget=STEPS", or what else `solvertap run --budget` takes; the name of one of `PRESETS`,
            `LOCAL` or `RIVALS`, whose weights are its papers'; or terms as `parse_term` reads them, such as
            "local-error:mean". "TEXT=WEIGHT" or "TEXT=START:STOP" gives a weight, in the place of the paper's, and
            that by which the terms are multiplied.
        problem: what is to be trained.

    Raises:
        UnknownNameError: there is no such method, or no such term or option.
        InvalidInputError: a weight is not a positive number, the method has none, or it cannot train the problem.
    """
    name, weight = split_weight(text)
    if is_budget(text):
        found = read_budget(text.partition("=")[2], LocalError(), f"--method {BUDGET}=")
        return Method(text, tuple(term for _, term in found.term.pairs()), budget=found)
    span = None if weight is None else _weight(weight, text)
    if span and (name == VANILLA or RIVALS.get(name) == ()):
        raise InvalidInputError(f"`--method {text}` gives a weight to {name!r}, which has none; leave {weight!r} out.")
    if name == VANILLA:
        return Method(name)
    if name in RIVALS:
        if problem.stochastic:
            raise InvalidInputError(
                f"`--method {text}` trains ODEs, and {problem.name!r} is an SDE; the choices are: "
                f"{', '.join(_known(rivals=False))}."
            )
        return _method(text, (), [span or default for default in RIVALS[name]], name)
    weighted, default = _terms(name, text)
    start, stop = span or default
    return _method(text, tuple(term for _, term in weighted), [(w * start, w * stop) for w, _ in weighted])


def is_budget(text: str) -> bool:
    """Whether the weight of a method finds itself."""
    return text.partition("=")[0].strip() == BUDGET


def split_weight(text: str) -> tuple[str, str | None]:
    """What is before the weight of a method's text, and the weight; None where it has none."""
    name, equals, weight = text.rpartition("=")
    return (name.rstrip(), weight) if equals and not _OPTION.search(name) else (text, None)


def _terms(name: str, text: str) -> tuple[tuple[tuple[Any, NamedTerm], ...], tuple[float, float]]:
    if name in PRESETS:
        preset = PRESETS[name]
        return preset.term.pairs(), (preset.start, preset.stop)
    if name in LOCAL:
        return LOCAL[name].pairs(), (2.5, 1.0)
    if re.fullmatch(r"[\w-]*", name) and name.replace("-", "_") not in plugins().terms:
        raise UnknownNameError.of("method or term", name, _known())
    parsed = parse_term(name)
    if parsed.annealed:
        raise InvalidInputError(
            f"`--method {text}` anneals a term by itself; write TERMS=START:STOP, which anneals over the epochs."
        )
    return parsed(0).pairs(), (1.0, 1.0)


def _known(*, rivals: bool = True) -> list[str]:
    terms = [name.replace("_", "-") for name in plugins().terms]
    return [VANILLA, f"{BUDGET}=STEPS", *terms, *LOCAL, *(RIVALS if rivals else ()), *PRESETS]


def _method(
    name: str, terms: tuple[NamedTerm, ...], spans: Sequence[tuple[float, float]], rival: str | None = None
) -> Method:
    return Method(name, terms, tuple(start for start, _ in spans), tuple(stop for _, stop in spans), rival)


def _weight(text: str, option: str) -> tuple[float, float]:
    try:
        values = [float(part) for part in text.split(":")]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not all(0 < value < float("inf") for value in values):
        raise InvalidInputError(
            f"The weight {text!r} of `{option}` is no positive number; give one, as in `1`, or two, as in `1:0.1`."
        )
    return values[0], values[-1]
