"""Terms as text, for the command line and for configuration files.

    0.1*local_error + 0.1*stiffness:max
    1:0.1:2000*local_error:scale=raw
    0.1*local_error:replay + local_error:draw=uniform

    sum    = item { "+" item }
    item   = [ weight "*" ] name { ":" option }
    weight = number | start ":" stop ":" steps
    option = "sum" | "mean" | "max" | "replay" | field "=" value

A weight of three numbers is annealed (`anneal`). A name is that of a built-in term or of a plugin's; an option sets a
field of it, and `draw` makes it a `LocalSample`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, NoReturn, cast, get_args

from ..errors import InvalidInputError, SolvertapError, UnknownNameError
from .fields import field_types, fits, wanted
from .local_sample import LocalSample
from .schedule import Constant, anneal
from .step_term import Reduce, StepTerm
from .sums import add
from .term import Term

_NUMBER = r"[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?"
_TOKEN = re.compile(rf"\s*(?:(?P<number>{_NUMBER})|(?P<word>[A-Za-z_][\w.-]*)|(?P<sign>[-+*:=])|(?P<other>\S))")
_SHOWN = 60  # characters that are shown of a long text before the place of a mistake
_FLAGS: dict[str, dict[str, Any]] = {"replay": {"replay": True}} | {x: {"reduce": x} for x in get_args(Reduce)}
_WORDS: dict[str, Any] = {"true": True, "false": False, "none": None}

Weight = Callable[[Any], Any]


@dataclass(frozen=True)
class ParsedTerm:
    """The weighted terms that a text names, as a function of the optimiser step k.

    Attributes:
        items: of each term its weight, a function of k.
        annealed: whether any weight depends on k.
    """

    items: tuple[tuple[Weight, Term], ...]
    annealed: bool

    def __call__(self, k: Any) -> Term:
        return add(weight(k) * term for weight, term in self.items)


def read_term(text: str, find: Callable[[str], Term]) -> ParsedTerm:
    """The weighted terms that a text names.

    Args:
        text: of the form above.
        find: gives the term of a name.

    Raises:
        InvalidInputError, UnknownNameError: as for `solvertap.parse_term`.
    """
    return _Parser(text, find).parse()


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    place: int


class _Parser:
    """A recursive descent over the tokens of one text."""

    def __init__(self, text: str, find: Callable[[str], Term]) -> None:
        self.text = text
        self.find = find
        self.tokens = [
            _Token(str(match.lastgroup), match.group(match.lastgroup or 0), match.start(match.lastgroup or 0))
            for match in _TOKEN.finditer(text.rstrip())
        ]
        self.tokens.append(_Token("end", "", len(text.rstrip())))
        self.next = 0
        self.annealed = False

    def parse(self) -> ParsedTerm:
        found = [self._item()]
        while self._accept("+"):
            found.append(self._item())
        if self._peek().kind != "end":
            self._fail("Here a `+` and another term may stand, or nothing")
        parsed = ParsedTerm(tuple(found), self.annealed)
        self._check(0, lambda: parsed(0))  # two different terms of one name
        return parsed

    def _item(self) -> tuple[Weight, Term]:
        weight: Weight = Constant(1.0)
        if self._peek().kind == "number":
            weight = self._weight()
            if not self._accept("*"):
                self._fail("Between a weight and its term stands a `*`")
        elif self._peek().text == "-" or (self._peek().kind == "word" and self.tokens[self.next + 1].text == "*"):
            self._fail("Here a weight is wanted: a finite number, zero or more")
        token = self._take("word", "Here the name of a term is wanted")
        term: Term = self._check(token.place, lambda: self.find(token.text.replace("-", "_")))
        draws: list[tuple[int, Any]] = []
        while self._accept(":"):
            term = self._option(term, draws)
        if draws:
            place, draw = draws[-1]
            term = self._check(place, lambda: LocalSample(cast("StepTerm", term), draw=draw))
        return weight, term

    def _weight(self) -> Weight:
        place = self._peek().place
        numbers = [self._number()]
        while len(numbers) < 3 and self._accept(":"):
            numbers.append(self._number())
        if len(numbers) == 1:
            return Constant(numbers[0])
        if len(numbers) == 2:
            self._fail("A weight is a number, or three, START:STOP:STEPS, to be annealed")
        self.annealed = True
        return self._check(place, lambda: anneal(*numbers))  # type: ignore[no-any-return]

    def _option(self, term: Term, draws: list[tuple[int, Any]]) -> Term:
        token = self._take("word", "Here an option is wanted: sum, mean, max, replay or FIELD=VALUE")
        if not isinstance(term, StepTerm):
            self._fail("A plugin's sum of several terms takes no option", token)
        if token.text in _FLAGS and self._peek().text != "=":
            changes = _FLAGS[token.text]
        elif token.text == "draw":
            self._equals(token)
            draws.append((token.place, self._value(token, field_types(LocalSample)["draw"])))
            return term
        else:
            known = [field.name for field in fields(term) if field.name != "reduce"]
            if token.text not in known:
                choices = ", ".join([*get_args(Reduce), *(f"{name}=..." for name in [*known, "draw"])])
                what = f"{term.name!r} has no option {token.text!r}; the choices are: {choices}"
                self._fail(what, token, UnknownNameError)
            self._equals(token)
            changes = {token.text: self._value(token, field_types(type(term))[token.text])}
        return self._check(token.place, lambda: replace(term, **changes))  # type: ignore[no-any-return]

    def _equals(self, option: _Token) -> None:
        if not self._accept("="):
            self._fail(f"The option {option.text!r} wants a value, as in `{option.text}=...`")

    def _value(self, option: _Token, annotation: Any) -> Any:
        if self._peek().kind == "number":
            number = self._number()
            choices: list[Any] = [number, int(number)] if number.is_integer() else [number]
        else:
            word = self._take("word", "Here a value is wanted, a number or a word").text
            choices = [_WORDS.get(word, word), word]
        for value in choices:
            if fits(value, annotation):
                return value
        return self._fail(f"`{option.text}` is {choices[0]!r}; {wanted(annotation)}", option)

    def _number(self) -> float:
        token = self._take("number", "Here a number is wanted")
        if math.isinf(number := float(token.text)):
            self._fail(f"A weight or a value is a finite number, and this is read as {number}", token)
        return number

    def _peek(self) -> _Token:
        return self.tokens[self.next]

    def _accept(self, sign: str) -> bool:
        found = (self._peek().kind, self._peek().text) == ("sign", sign)
        self.next += found
        return found

    def _take(self, kind: str, otherwise: str) -> _Token:
        token = self._peek()
        if token.kind != kind:
            self._fail(otherwise)
        self.next += 1
        return token

    def _check(self, place: int, make: Callable[[], Any]) -> Any:
        """What is made, or its own complaint, pointed at where it comes from."""
        try:
            return make()
        except SolvertapError as error:
            self._fail(str(error).rstrip("."), _Token("", "", place), type(error))

    def _fail(self, what: str, at: _Token | None = None, kind: type[SolvertapError] = InvalidInputError) -> NoReturn:
        token = self._peek() if at is None else at
        start = max(0, token.place - _SHOWN) if len(self.text) > 3 * _SHOWN else 0
        shown = self.text[start : start + 3 * _SHOWN]
        line = "".join(character if character.isprintable() else " " for character in shown)  # one column each
        raise kind(f"{what}:\n    {line}\n    {' ' * (token.place - start)}^") from None
