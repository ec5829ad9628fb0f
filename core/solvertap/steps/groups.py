"""Whose error it is: the squares of the scaled error, summed over each sample, or over each part of the state."""

from __future__ import annotations

import math
import operator
from functools import reduce
from itertools import accumulate, pairwise
from typing import NamedTuple

from ..errors import InvalidInputError
from .arithmetic import over_elements, square
from .arrays import Array, State, array_namespace, parts

BY = ("sample", "part")

Squares = tuple["Array | tuple[()]", ...]
"""For each of `BY` an array of shape (groups,); empty where it is not asked for, so that a carry holds no None."""


_MOST = 512  # groups of which the squares are kept where nobody has asked for them
_ROWS, _NUMBERS = 64, 4096  # and of how many attempts a traced loop does, whose backward pass may hold many copies


class Groups(NamedTuple):
    """The samples, or the parts, of a state that share its error. It holds no array and hashes by its shapes.

    Attributes:
        by: those of `BY` that are asked for.
        shapes: of the arrays of the state. Of a batch, whose samples take steps of their own, those of one sample.
        asked: whether somebody has asked for them, and not only for what is cheap.
    """

    by: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    asked: bool = True

    @classmethod
    def of(
        cls, adapter: str, by: tuple[str, ...], like: State, shapes: tuple[tuple[int, ...], ...], batched: bool
    ) -> Groups:
        """Those of a solve.

        Args:
            adapter: its name, for what is refused.
            by: what is asked for.
            like: a state of the solve.
            shapes: of the user's arrays, where `like` is one vector that the library has made of several.
            batched: whether its samples take steps of their own.

        Raises:
            InvalidInputError: samples are asked for, and the state has none along its first axis.
        """
        shapes = _shapes(like, shapes, batched)
        if "sample" in by:
            _check_samples(adapter, shapes, batched)
        return cls(by, shapes)

    @classmethod
    def that_are_few(cls, like: State, shapes: tuple[tuple[int, ...], ...], batched: bool) -> Groups | None:
        """Those of a solve where nobody has said which: samples and parts, where there are two to 512; else None.

        An array with a single axis is taken for one sample. Arguments as for `of`.
        """
        shapes = _shapes(like, shapes, batched)
        sampled = not batched and _have_samples(shapes) and len(shapes[0]) > 1
        every = cls(BY if sampled else ("part",), shapes, asked=False)
        few = [by for by, n in zip(BY, every.counts, strict=True) if n is not None and 2 <= n <= _MOST]
        return every._replace(by=tuple(few)) if few else None

    def rows(self, capacity: int, groups: int) -> int:
        """Of how many attempts a traced loop keeps the squares: of all, or of the first ones where nobody has asked."""
        return capacity if self.asked else min(capacity, _ROWS, _NUMBERS // groups)

    @property
    def counts(self) -> tuple[int | None, ...]:
        """For each of `BY` how many groups there are; None where it is not asked for."""
        samples = self.shapes[0][0] if "sample" in self.by else None
        components = self.shapes[0][-1:] if len(self.shapes) == 1 else (len(self.shapes),)
        return samples, (components or (1,))[0] if "part" in self.by else None

    def squares(self, scaled: tuple[Array, ...], stack_ndim: int) -> Squares:
        """The sums of the squares of each group.

        Args:
            scaled: what E is the norm of, see `scaled_error`, constants.
            stack_ndim: as of `Step`; the arrays have these axes first.
        """
        pieces = self._pieces(scaled, stack_ndim)
        found = []
        for by, of in zip(BY, (_of_samples, _of_parts), strict=True):
            found.append(of(pieces, stack_ndim) if by in self.by else ())
        return tuple(found)

    def _pieces(self, scaled: tuple[Array, ...], stack_ndim: int) -> tuple[Array, ...]:
        """The squares as the user's arrays, where the library has made one vector of them."""
        squares = tuple(square(x) for x in scaled)
        if tuple([tuple(x.shape[stack_ndim:]) for x in squares]) == self.shapes:
            return squares
        (x,) = squares
        xp, stack = array_namespace(x), x.shape[:stack_ndim]
        ends = pairwise(accumulate((math.prod(shape) for shape in self.shapes), initial=0))
        pairs = zip(ends, self.shapes, strict=True)
        return tuple(xp.reshape(x[..., start:end], (*stack, *shape)) for (start, end), shape in pairs)


def _shapes(like: State, shapes: tuple[tuple[int, ...], ...], batched: bool) -> tuple[tuple[int, ...], ...]:
    shapes = shapes or tuple([tuple(x.shape) for x in parts(like)])
    return tuple(shape[1:] for shape in shapes) if batched else shapes


def _have_samples(shapes: tuple[tuple[int, ...], ...]) -> bool:
    return bool(shapes) and len({shape[:1] for shape in shapes}) == 1 and bool(shapes[0])


def _of_samples(squares: tuple[Array, ...], stack_ndim: int) -> Array:
    return reduce(operator.add, (over_elements("sum", x, stack_ndim + 1) for x in squares))


def _of_parts(squares: tuple[Array, ...], stack_ndim: int) -> Array:
    x, *others = squares
    xp = array_namespace(x)
    if others:
        return xp.stack([over_elements("sum", x, stack_ndim) for x in squares], axis=-1)
    if x.ndim == stack_ndim:
        return xp.reshape(x, (*x.shape, 1))
    axes = tuple(range(stack_ndim, x.ndim - 1))
    return xp.sum(x, axis=axes) if axes else x


def _check_samples(adapter: str, shapes: tuple[tuple[int, ...], ...], batched: bool) -> None:
    asked = f'`observe(by="sample")` was asked of a solve by {adapter!r}'
    if batched:
        raise InvalidInputError(
            f"{asked}, whose samples take steps of their own. Each has a trace of its own in "
            '`seen.trace.samples()`, and `by="part"` tells the parts of a sample apart.'
        )
    if not _have_samples(shapes):
        shown = ", ".join(map(str, shapes)) or "none"
        raise InvalidInputError(
            f"{asked}, whose state has no samples along a first axis that all of its arrays have (shapes: {shown}). "
            'Ask for `by="part"`, or leave it out.'
        )
