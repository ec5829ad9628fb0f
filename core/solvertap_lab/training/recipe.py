"""A comparison in plain words, from which every process makes it anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from solvertap.errors import InvalidInputError

from ..problems.finding import find_problem
from ..problems.optimiser import Optimiser
from ..problems.problem import Problem
from .backends import choose_backends
from .comparison import Comparison
from .methods import choose_method

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Recipe:
    """What a command line says of a comparison; strings and numbers alone, so that it travels.

    Attributes:
        problem: its name.
        methods, backends: as texts of the command line; None for those of the problem, and for every installed one.
        seeds: of weights and batches.
        epochs, batch_size, tolerance, precision, optimiser, first_step, trajectories: None for the problem's.
        solver: None for the default of each backend.
        align: whether every backend takes the reference steps.
        data: the folder, or the package, of the data; None for what the problem brings.
    """

    problem: str
    methods: tuple[str, ...] | None = None
    backends: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (1999,)
    epochs: int | None = None
    batch_size: int | None = None
    tolerance: float | None = None
    precision: int | None = None
    optimiser: str | None = None
    first_step: float | None = None
    trajectories: int | None = None
    solver: str | None = None
    align: bool = False
    data: str | None = None

    def comparison(self) -> Comparison:
        """The comparison, with a problem of its own that has read its data.

        Raises:
            UnknownNameError: there is no such problem, backend, method or solver.
            InvalidInputError: a value has no meaning for the problem.
            MissingExtraError: a package is not installed.
        """
        problem = find_problem(self.problem)
        problem.load(None if self.data is None else Path(self.data), self.seeds[0])
        self._change(problem)
        methods = [choose_method(text, problem) for text in dict.fromkeys(self.methods or problem.methods)]
        found = Comparison(
            problem=problem,
            backends=choose_backends(list(self.backends), problem, methods, self.solver),
            methods=methods,
            seeds=self.seeds,
            epochs=_positive("epochs", problem.epochs if self.epochs is None else self.epochs),
            batch_size=_positive("batch-size", problem.batch_size if self.batch_size is None else self.batch_size),
            tolerance=_positive("tolerance", problem.tolerance if self.tolerance is None else self.tolerance),
            align=self.align,
            precision=problem.precision if self.precision is None else self.precision,
            solver=self.solver,
            data=self.data,
        )
        if found.precision not in (32, 64):
            raise InvalidInputError(f"`--precision` is {self.precision!r}; the choices are: 32, 64.")
        return found

    def _change(self, problem: Problem) -> None:
        """Puts the given settings in the place of the problem's own."""
        if self.optimiser is not None:
            problem.optimiser = Optimiser.of(self.optimiser)
        if self.first_step is not None:
            problem.first_step = _positive("first-step", self.first_step)
        if self.trajectories is not None:
            if problem.trajectories is None:
                raise InvalidInputError(
                    f"`--trajectories` is {self.trajectories!r}, and {problem.name!r} solves each input once; leave it "
                    "out."
                )
            problem.test_trajectories = _positive("trajectories", self.trajectories)


def _positive(name: str, value: Number) -> Number:
    if not 0 < value < float("inf"):
        raise InvalidInputError(f"`--{name}` is {value!r}; give a positive number.")
    return value
