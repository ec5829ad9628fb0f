"""What a solve needs of the array library that it computes with."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, NamedTuple

from ..errors import InvalidInputError
from ..steps.arrays import Array, State, array_namespace, like_parts, parts
from ..steps.step import Step
from ..terms.step_term import StepTerm
from .injection import Injection
from .rows import Tables

ReplayCarry = tuple[tuple[Array, ...], Any]
"""The totals of the terms, and what a solver keeps for its next step."""


class FallbackKey(NamedTuple):
    """The key of a `LocalSample` where the caller gives none: the random numbers of the program stay as they are.

    Attributes:
        k: the optimiser steps so far, for other draws at the next.
    """

    k: int


class Framework(Tables):
    """One array library as a solve sees it; the defaults serve NumPy.

    Attributes:
        name: of the adapter that it belongs to.
        counts_are_numbers: whether the counts of a solve are numbers that nothing traces, so that statistics may
            be kept of a solve that is transformed inside the block.
    """

    name: ClassVar[str]
    counts_are_numbers: ClassVar[bool] = False

    def constant(self, x: Array) -> Array:
        """The array without gradient."""
        return x

    def gradients(self, value: Array, parameters: Sequence[Array]) -> Sequence[Array | None]:  # noqa: ARG002
        """The gradient of a value by each parameter, None where there is none; its graph is kept.

        Raises:
            InvalidInputError: the framework differentiates functions, not values.
        """
        raise InvalidInputError(
            f"{self.name!r} cannot differentiate a loss afterwards. Take the gradients of the loss and of the "
            "penalty by `jax.vjp`, and give them to `budget.updated`."
        )

    def recording(self) -> AbstractContextManager[None]:
        """A block in which gradients are recorded, where a solver may have switched that off."""
        return nullcontext()

    def untouched(self, like: State | None) -> AbstractContextManager[None]:  # noqa: ARG002  # the default has no state
        """A block that leaves the program's random numbers as they are, whatever a field draws in it.

        Args:
            like: a state of the solve.
        """
        return nullcontext()

    def numbers(self, key: Any, index: int) -> Callable[[Any, State], Array]:
        """The random numbers of one solve; see `RandomSource`.

        Args:
            key: as given to `observe`, or a `FallbackKey`.
            index: of the solve in its block.

        Raises:
            InvalidInputError: there are no numbers in the key.
        """
        if isinstance(key, FallbackKey):
            return self.numbers(random.Random(key.k), index)
        if hasattr(key, "random"):
            return lambda n, y: key.random()  # noqa: ARG005  # as it is called
        if callable(key):
            return lambda n, y: key(n)  # noqa: ARG005  # as it is called
        raise InvalidInputError(
            f"`LocalSample` draws a time of a solve of {self.name!r} by the key {key!r}. Give one that draws "
            "numbers, as in `observe(term, key=random.Random(0))`, or a function of n that returns the n-th."
        )

    def to_numpy(self, x: Array) -> Any:
        """The array on the host, as a NumPy array."""
        import numpy as np

        return np.asarray(x)

    def soon(self, values: Sequence[Array]) -> Callable[[], list[float] | None]:
        """Scalars as numbers once they are there, for a thread that must not make the program wait for its device.

        Args:
            values: of one solve; this is called on the thread that solves.

        Returns:
            A function for any other thread, which gives None while the device has not come so far.
        """
        return lambda: [float(self.to_numpy(x)) for x in values]

    def analytic(self, terms: Sequence[StepTerm], steps: Sequence[Step]) -> Sequence[Array] | None:  # noqa: ARG002
        """What terms measure on accepted steps, in a way that lets the framework use `StepTerm.gradient`.

        Args:
            terms: some that have the derivative of these steps written out.
            steps: as many as `steps_together`, or fewer. In a traced loop one.

        Returns:
            For each term an array of shape (len(steps),), or () of one step, and of `Steps`, which are each those of a
            batch, of shape (len(steps) * batch,); None where the framework differentiates `StepTerm.measure` itself.
        """
        return None

    def mapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of one sample, mapped over the first axis of its arguments: the framework's `vmap`.

        It returns an array or a tuple of them. The default calls it sample by sample.
        """

        def each(*arrays: Array) -> Any:
            results = [function(*sample) for sample in zip(*arrays, strict=True)]
            if not isinstance(results[0], tuple):
                return _stack(results)
            return tuple(map(_stack, zip(*results, strict=True)))

        return each

    def batched(self, function: Callable[..., State]) -> Callable[..., State]:
        """The reverse, inside of `mapped`: a function of the whole batch, as one of the sample that is mapped.

        The default calls it with a batch of one, as any `vmap` can; a field that depends on the sample in another way
        than by its arguments needs more.
        """

        def of_sample(*states: State) -> State:
            alone = [like_parts(state, tuple(x[None, ...] for x in parts(state))) for state in states]
            result = function(*alone)
            return like_parts(result, tuple(x[0, ...] for x in parts(result)))

        return of_sample

    def steps_together(self, like: State) -> int:  # noqa: ARG002  # the default looks at nothing
        """How many accepted steps of such a state a Python loop collects for `analytic`."""
        return 1

    def replayed(
        self,
        take: Callable[..., ReplayCarry],
        again: Callable[..., ReplayCarry],  # noqa: ARG002  # the default keeps every step
        carried: ReplayCarry,
        grid: Any,
    ) -> ReplayCarry:
        """What a replay carries after its last step; see `Replay`.

        Args:
            take: `take(carried, *noted)` takes one step more, with gradient.
            again: the same, for a backward pass that computes a step again: what it evaluates counts as recomputed.
            carried: before the first step.
            grid: `Replay.grid`.
        """
        for noted in grid:
            carried = take(carried, *noted)
        return carried

    def on_host(self, function: Callable[[Any], None], seen: Any) -> None:
        """Calls a function with what was seen of a solve: at once, or when a compiled program has run.

        Args:
            function: takes the same, in numbers and NumPy arrays.
            seen: counts, a trace, or a tuple of these.
        """
        function(seen)

    def inject(self, solution: Any, injection: Injection) -> Any:  # noqa: ARG002  # nothing is injected by default
        """The solution behind an identity whose backward pass adds weight times the gradient of each value.

        Args:
            solution: what `Solve.through` was given.
            injection: the terms, their values and weights, and where to record the solve.
        """
        return solution

    def trace_context(self) -> object:
        """What is being traced here and now; a solve must find what its observation found. None: never traced."""
        return None

    def has_outlived(self, x: Any) -> bool:  # noqa: ARG002  # the default needs no look at it
        """Whether a number that a solve left belongs to a trace that has ended. Never, where nothing is traced."""
        return False


def _stack(arrays: Sequence[Array]) -> Array:
    return array_namespace(arrays[0]).stack(list(arrays))
