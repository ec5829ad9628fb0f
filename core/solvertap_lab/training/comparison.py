"""Training a problem with every method in every backend, and what came of it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np

from solvertap.errors import InvalidInputError, SolvertapError

from ..problems.problem import Problem
from .averaging import Averaging
from .backends import Backend
from .epoch import train_epoch
from .methods import Method
from .prediction import predict
from .run import Checkpoint, Run, Standing
from .solvers import solvers
from .timing import batches_of, time_predictions, time_steps, today
from .trainer import Setting, Trainer

PREDICTIONS = 7
# What the frameworks raise where a solve fails: too many steps, a step size of zero, a NaN.
_FAILURES = (RuntimeError, AssertionError, ArithmeticError)


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
        beside: Callable[[], int] | None = None,
        *,
        times_later: bool = False,
    ) -> Run:
        """Trains one model and predicts with it. A solve that fails ends this run, and none of the others.

        With a checkpoint, the milliseconds of a run that others were trained beside are left to `measure`; they are NaN
        until then, and the checkpoint stays.

        Args:
            backend, method, seed: which one. The seed draws weights and batches, the same in every backend.
            on_epoch: called with the number of finished epochs and the mean evaluations of the last one.
            checkpoint: where training goes on from, and keeps its standing after each epoch until it has ended.
            beside: says how many other runs are being trained on this machine; asked after each epoch.
            times_later: leaves the milliseconds to `measure` in any case.

        Raises:
            InvalidInputError: the backend lacks the method.
        """
        if not backend.trains(method):
            raise InvalidInputError(
                f"{method.name!r} cannot be trained in {backend.name}; it is written in diffrax alone."
            )
        standing = None if checkpoint is None else checkpoint.read()
        day = today()
        run = Run(backend.name, method.name, seed, method.penalty(), day=day) if standing is None else standing.run
        if len(run.evaluations_by_epoch) < self.epochs:
            run.goes_on(day)
        if times_later:
            run.predict_milliseconds = math.nan
        try:
            self._train(backend, method, run, standing, on_epoch, checkpoint, beside)
        except SolvertapError:
            raise
        except _FAILURES as error:
            run.failure = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        if checkpoint is not None and not run.waits_for_times:
            checkpoint.clear()
        return run

    def measure(self, backend: Backend, method: Method, standing: Standing) -> Run:
        """Measures the milliseconds of a run that has ended: nothing else is to run on the machine.

        Where a solve fails that did not fail in training, they stay NaN.

        Args:
            backend, method: its own.
            standing: after its last epoch.
        """
        run, weights = standing.run, method.weights(self.epochs - 1, self.epochs)
        with contextlib.suppress(*_FAILURES):
            trainer, rng = self._prepared(backend, method, run)
            rng.bit_generator.state = standing.drawing
            trainer.restore(standing.trainer)
            run.step_milliseconds = time_steps(trainer, batches_of(self.problem, rng, self.batch_size), weights)
            trainer.restore(standing.trainer)
            if standing.averaged:
                trainer.use(dict(standing.averaged))
            run.predict_milliseconds = time_predictions(trainer, self.problem.test_batch(), PREDICTIONS)
            run.timed = today()
        run.timed_after = True
        return run

    def _train(
        self,
        backend: Backend,
        method: Method,
        run: Run,
        standing: Standing | None,
        on_epoch: Callable[[int, float], None] | None,
        checkpoint: Checkpoint | None,
        beside: Callable[[], int] | None,
    ) -> None:
        trainer, rng = self._prepared(backend, method, run)
        seconds = [] if standing is None else list(standing.step_seconds)
        averaging = Averaging(self.problem.averaged, self.epochs)
        draw = partial(self.problem.batches, rng, self.batch_size)
        if standing is not None:
            rng.bit_generator.state = standing.drawing
            trainer.restore(standing.trainer)
            averaging.mean = dict(standing.averaged)
        for epoch in range(len(run.evaluations_by_epoch), self.epochs):
            seconds += train_epoch(trainer, run, draw, method.weights(epoch, self.epochs))
            averaging.take(epoch, trainer.weights)
            if beside is not None:
                run.beside = max(run.beside, beside())
            if checkpoint is not None:
                checkpoint.write(Standing(run, seconds, rng.bit_generator.state, trainer.state(), averaging.mean))
            if on_epoch is not None:
                on_epoch(epoch + 1, run.evaluations_by_epoch[-1])
        last = trainer.state()
        if averaging.mean:
            trainer.use(averaging.mean)
        predict(trainer, self.problem, run)
        if checkpoint is not None and (run.beside or math.isnan(run.predict_milliseconds)):
            run.step_milliseconds = run.predict_milliseconds = math.nan
            checkpoint.write(Standing(run, seconds, rng.bit_generator.state, last, averaging.mean))
        else:
            run.step_milliseconds = 1000 * median(seconds)
            run.predict_milliseconds = time_predictions(trainer, self.problem.test_batch(), PREDICTIONS)
            run.timed = today()

    def _prepared(self, backend: Backend, method: Method, run: Run) -> tuple[Trainer, np.random.Generator]:
        """A trainer with fresh weights, ready to step, and the generator that draws the batches."""
        rng = np.random.default_rng(run.seed)
        trainer = backend.make(self._setting(method, run.seed), self.problem.parameters(rng))
        first_batch = next(iter(self.problem.batches(np.random.default_rng(0), self.batch_size)))
        run.compile_seconds = trainer.prepare(first_batch, method.weights(0, self.epochs))
        return trainer, rng

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
