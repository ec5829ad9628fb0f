"""Training a problem with every method in every backend, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from solvertap.errors import InvalidInputError, SolvertapError

from ..problems.problem import Problem
from .averaging import Averaging
from .backends import Backend
from .methods import Method
from .run import Checkpoint, Run, Standing
from .solvers import solvers
from .trainer import Setting, Trainer

PREDICTIONS = 7


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        problem: the problem.
        backends, methods, seeds: every combination is trained, but for rivals where a backend lacks them.
        epochs, batch_size, tolerance, align, precision: of every one of them.
        solver: of every one of them; None for the default of each backend.
        data: the folder, or the package, that the problem has read; None for what it brings.
    """

    problem: Problem
    backends: Sequence[Backend]
    methods: Sequence[Method]
    seeds: Sequence[int]
    epochs: int
    batch_size: int
    tolerance: float
    align: bool
    precision: int
    solver: str | None = None
    data: str | None = None

    def by_default(self) -> bool:
        """Whether every backend solves by its default solver."""
        return all(self.solver in (None, solvers(b.name, self.problem)[0]) for b in self.backends)

    def runs(self) -> Iterable[tuple[Backend, Method, int]]:
        """Every combination that can be trained, the methods of one backend together."""
        return [(b, m, s) for b in self.backends for s in self.seeds for m in self.methods if b.trains(m)]

    def train(
        self,
        backend: Backend,
        method: Method,
        seed: int,
        on_epoch: Callable[[int, float], None] | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Run:
        """Trains one model and predicts with it. A solve that fails ends this run, and none of the others.

        Args:
            backend, method, seed: which one. The seed draws weights and batches, the same in every backend.
            on_epoch: called with the number of finished epochs and the mean evaluations of the last one.
            checkpoint: where training goes on from, and keeps its standing after each epoch until it has ended.

        Raises:
            InvalidInputError: the backend lacks the method.
        """
        if not backend.trains(method):
            raise InvalidInputError(
                f"{method.name!r} cannot be trained in {backend.name}; it is written in diffrax alone."
            )
        standing = None if checkpoint is None else checkpoint.read()
        run = Run(backend.name, method.name, seed, method.penalty()) if standing is None else standing.run
        try:
            self._train(backend, method, run, standing, on_epoch, checkpoint)
        except SolvertapError:
            raise
        # What the frameworks raise where a solve fails: too many steps, a step size of zero, a NaN.
        except (RuntimeError, AssertionError, ArithmeticError) as error:
            run.failure = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        if checkpoint is not None:
            checkpoint.clear()
        return run

    def _train(
        self,
        backend: Backend,
        method: Method,
        run: Run,
        standing: Standing | None,
        on_epoch: Callable[[int, float], None] | None,
        checkpoint: Checkpoint | None,
    ) -> None:
        rng = np.random.default_rng(run.seed)
        trainer = backend.make(self._setting(method, run.seed), self.problem.parameters(rng))
        first_batch = next(iter(self.problem.batches(np.random.default_rng(0), self.batch_size)))
        run.compile_seconds = trainer.prepare(first_batch, method.weights(0, self.epochs))
        seconds: list[float] = []
        averaging = Averaging(self.problem.averaged, self.epochs)
        if standing is not None:
            seconds += standing.step_seconds
            rng.bit_generator.state = standing.drawing
            trainer.restore(standing.trainer)
            averaging.mean = dict(standing.averaged)
        for epoch in range(len(run.evaluations_by_epoch), self.epochs):
            self._train_epoch(trainer, run, rng, method.weights(epoch, self.epochs), seconds)
            averaging.take(epoch, trainer.weights())
            if checkpoint is not None:
                checkpoint.write(Standing(run, seconds, rng.bit_generator.state, trainer.state(), averaging.mean))
            if on_epoch is not None:
                on_epoch(epoch + 1, run.evaluations_by_epoch[-1])
        run.step_milliseconds = 1000 * median(seconds)
        if averaging.mean:
            trainer.use(averaging.mean)
        self._predict(trainer, run)

    def _setting(self, method: Method, seed: int) -> Setting:
        return Setting(
            problem=self.problem,
            terms=method.terms,
            tolerance=self.tolerance,
            align=self.align,
            precision=self.precision,
            seed=seed,
            rival=method.rival,
            solver=self.solver,
            budget=method.budget,
        )

    def _train_epoch(
        self, trainer: Trainer, run: Run, rng: np.random.Generator, weights: tuple[float, ...], seconds: list[float]
    ) -> None:
        counts = []
        started = time.perf_counter()
        for batch in self.problem.batches(rng, self.batch_size):
            step_started = time.perf_counter()
            loss, stats = trainer.step(batch, weights)
            seconds.append(time.perf_counter() - step_started)
            run.losses.append(loss)
            counts.append(float("nan") if stats.evaluations is None else float(stats.evaluations))
        run.train_seconds += time.perf_counter() - started
        run.evaluations_by_epoch.append(float(np.mean(counts)))

    def _predict(self, trainer: Trainer, run: Run) -> None:
        batch = self.problem.test_batch()
        run.metric, stats = trainer.predict(batch)  # compiles, where there is anything to compile
        run.evaluations, run.accepted, run.rejected = stats.evaluations, int(stats.accepted), int(stats.rejected)
        seconds = []
        for _ in range(PREDICTIONS):
            started = time.perf_counter()
            trainer.predict(batch)
            seconds.append(time.perf_counter() - started)
        run.predict_milliseconds = 1000 * median(seconds)
        run.trace = {name: column.tolist() for name, column in trainer.trace(batch).items()}
        validation = self.problem.validation_batch()
        if validation is not None:
            run.validation = trainer.predict(validation)[0]
