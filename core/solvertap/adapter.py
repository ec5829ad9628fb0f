"""What somebody writes to have a solver observed."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from importlib import metadata
from typing import TYPE_CHECKING, Any, ClassVar

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from .errors import InvalidInputError
from .samples import Unkeyed
from .state import Array, State

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .offered import Passage
    from .patching import Patches
    from .statistics import Stats
    from .step import Step
    from .terms import StepTerm
    from .trial import Trial


class Adapter(ABC):
    """Teaches solvertap one solver library: where its steps can be seen, and nothing about what to do with them.

    An adapter translates and never computes. `attach` is called once, when an observation opens and `module`
    has been imported; from then on the adapter calls `open_solve(self)` where a solve begins and, unless that
    returns None, hands each attempted step to the `Solve` it got. docs/plugins.md has the whole recipe.

    Attributes:
        name: what the adapter is called in `solvertap adapters`, unique.
        module: the import name whose presence in `sys.modules` says that the library is in use.
        distribution: the name under which it is installed; None for code that has no distribution.
        tested: the versions the adapter was tested with (PEP 440); outside it there is a warning.
        counts_are_numbers: whether the counts of a solve are numbers that nothing traces, so that statistics may
            be kept of a solve that is transformed inside the block.
        checkpoints: whether it honours `Solve.checkpoint`.
        injects: whether it returns what `Solve.through` gives, and so serves `regularize`.
        aligns: whether it takes the reference steps where `Solve.align` asks for them.
        samples: whether it calls `Sampling.begin` where a solve has a `sampling`, and so serves `LocalSample`.
    """

    name: ClassVar[str]
    module: ClassVar[str]
    distribution: ClassVar[str | None] = None
    tested: ClassVar[str] = ""
    counts_are_numbers: ClassVar[bool] = False
    checkpoints: ClassVar[bool] = False
    aligns: ClassVar[bool] = False
    injects: ClassVar[bool] = False
    samples: ClassVar[bool] = False

    @abstractmethod
    def attach(self, patches: Patches) -> None:
        """Places the taps, all of them through `patches`. May import the library: the user has done so."""

    def constant(self, x: Array) -> Array:
        """The array without gradient."""
        return x

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
        """The random numbers of one solve; see `Draws`.

        Args:
            key: as given to `observe`, or an `Unkeyed`.
            index: of the solve in its block.

        Raises:
            InvalidInputError: there are no numbers in the key.
        """
        if isinstance(key, Unkeyed):
            return self.numbers(random.Random(key.k), index)
        if hasattr(key, "random"):
            return lambda n, y: key.random()  # noqa: ARG005  # as it is called
        if callable(key):
            return lambda n, y: key(n)  # noqa: ARG005  # as it is called
        raise InvalidInputError(
            f"`LocalSample` draws a time of a solve of {self.name!r} by the key {key!r}; give one that draws numbers, "
            "as in `observe(term, key=random.Random(0))`, or a function of n that returns the n-th."
        )

    def to_numpy(self, x: Array) -> Any:
        """The array on the host, as a NumPy array."""
        import numpy as np

        return np.asarray(x)

    def soon(self, values: Sequence[Array]) -> Callable[[], list[float] | None]:
        """Scalars as numbers, when they are there: for whoever must not make the program wait for its device.

        Args:
            values: of one solve, asked for on the thread that solves.

        Returns:
            A function for any other thread, which gives None while the device has not come so far.
        """
        return lambda: [float(self.to_numpy(x)) for x in values]

    def derived(self, terms: Sequence[StepTerm], steps: Sequence[Step]) -> Sequence[Array] | None:  # noqa: ARG002
        """What terms measure on accepted steps, in a way that lets the framework use `StepTerm.gradient`.

        Args:
            terms: some that have the derivative of these steps written out.
            steps: as many as `steps_together`, or fewer. In a traced loop one.

        Returns:
            For each term an array of shape (len(steps),), or () of one step; None where the framework is to
            differentiate `StepTerm.measure` itself.
        """
        return None

    def steps_together(self, like: State) -> int:  # noqa: ARG002  # the default looks at nothing
        """How many accepted steps of such a state a Python loop collects for `derived`."""
        return 1

    def on_host(self, function: Callable[[Stats], None], stats: Stats) -> None:
        """Calls a function with the counts of a solve, as numbers: at once, or when a compiled program has run."""
        function(stats)

    def inject(self, solution: Any, passage: Passage) -> Any:  # noqa: ARG002  # nothing is injected by default
        """The solution behind an identity whose backward pass adds weight times the gradient of each value.

        Args:
            solution: what `Solve.through` was given.
            passage: the terms, their values and weights, and where to record the solve.
        """
        return solution

    def scope(self) -> object:
        """What is being traced here and now; a solve must find what its observation found. None: never traced."""
        return None

    def has_outlived(self, x: Any) -> bool:  # noqa: ARG002  # the default needs no look at it
        """Whether a number that a solve left belongs to a trace that has ended. Never, where nothing is traced."""
        return False

    def trial(self, device: str | None = None) -> Trial | None:  # noqa: ARG002  # the default solves nothing
        """A small problem on which `solvertap doctor` checks the adapter; None: only its patches are checked.

        Args:
            device: where to solve, in the framework's own words; None for its default.
        """
        return None

    def version(self) -> str | None:
        """The installed version of the library; None where it is not installed or has no distribution."""
        if self.distribution is None:
            return None
        try:
            # Not `find_spec`: a folder of that name on the path would answer for a library that is not there.
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None

    def is_tested(self) -> bool | None:
        """Whether the installed version is inside `tested`; None where nothing is installed."""
        version = self.version()
        return None if version is None else SpecifierSet(self.tested).contains(Version(version), prereleases=True)
