"""What cannot be added: arrays of two frameworks, of different batches, of a trace that has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from array_api_compat import array_namespace, is_array_api_obj, is_numpy_array

from ..errors import EscapedTraceError, InvalidInputError, MixedFrameworksError
from ..solves.framework import Framework
from ..solves.solve import Solve
from ..steps.arrays import Array
from ..terms.term import NamedTerm, Term


def refuse_mixed(solves: Sequence[Solve], valued: Sequence[Mapping[NamedTerm, Array]]) -> None:
    """Refuses to add the values of solves of two frameworks.

    Raises:
        MixedFrameworksError: they are.
    """
    if len(valued) > 1 and len({array_namespace(next(iter(values.values()))) for values in valued}) > 1:
        names = sorted({solve.adapter.name for solve in solves})
        raise MixedFrameworksError(
            f"This block holds solves of {', '.join(names)}, whose values cannot be added; "
            "observe each framework in a block of its own."
        )


def refuse_batches(solves: Sequence[Solve]) -> None:
    """Refuses to add what solves of different batches have for each sample.

    Raises:
        InvalidInputError: they are of different batches.
    """
    sizes = {solve.batch for solve in solves}
    if len(sizes) > 1:
        found = ", ".join(sorted("one sample" if size is None else f"{size} samples" for size in sizes))
        raise InvalidInputError(
            f"This block holds solves of {found}, whose entries for each sample cannot be added. Read each of "
            "`seen.solves` by itself, as in `[solve.stats for solve in seen.solves]`."
        )


def refuse_foreign(weight: Any, value: Array, term: NamedTerm) -> None:
    """Refuses a weight that is an array of another library than the value.

    Raises:
        MixedFrameworksError: it is.
    """
    if isinstance(weight, int | float) or not is_array_api_obj(weight) or is_numpy_array(weight):
        return
    foreign, own = (array_namespace(x).__name__.removeprefix("array_api_compat.") for x in (weight, value))
    if foreign != own:
        raise MixedFrameworksError(
            f"The weight of {term.name!r} is an array of `{foreign}`, and its value one of `{own}`. Give the "
            "weight as a number, or as an array of the solve's own library."
        )


def refuse_unobserved(term: Term, weighted: Sequence[tuple[Any, NamedTerm]]) -> None:
    """Refuses a sum with a term that is not among those observed.

    Raises:
        InvalidInputError: it has one.
    """
    observed = [each for _, each in weighted]
    for _, asked in term.pairs():
        if asked not in observed:
            names = ", ".join(repr(each.name) for each in observed) or "no term"
            raise InvalidInputError(
                f"The value of {asked.name!r} was asked of a block that observes {names}; give the term to `observe`."
            )


def refuse_outlived(solves: Sequence[Solve]) -> None:
    """Refuses solves whose values have outlived the transformation that they belong to.

    Raises:
        EscapedTraceError: there is one.
    """
    for solve in solves:
        adapter = solve.adapter
        if type(adapter).has_outlived is not Framework.has_outlived and any(map(adapter.has_outlived, solve.numbers)):
            raise EscapedTraceError(
                "What was observed belongs to a transformation (jit, vmap, grad, scan) that has ended. Return "
                "`seen.penalty`, `seen.values` or `seen.stats` from the transformed function, not `seen`."
            )
