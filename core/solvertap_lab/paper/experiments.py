"""What the paper measured, and the experiments that measure it again.

Pal, Ma, Shah, Rackauckas, "Opening the Blackbox" (ICML 2021, arXiv 2105.03918), tables 1 to 4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from ..problems.finding import find_problem
from ..training.methods import is_budget


@dataclass(frozen=True)
class Figures:
    """One of the paper's tables: its plain model, then the one that penalizes the local error (ERNODE, ERNSDE).

    Attributes:
        table: what it is called here.
        evaluations, metric, training, prediction: of both; the metric is an accuracy in % or an error.
    """

    table: str
    evaluations: tuple[float, float]
    metric: tuple[float, float]
    training: tuple[float, float]
    prediction: tuple[float, float]

    @property
    def difference(self) -> float:
        """Of the metrics, in points of accuracy or as a share of the plain model's error."""
        plain, penalized = self.metric
        return penalized - plain if self.is_accuracy else penalized / plain - 1

    @property
    def is_accuracy(self) -> bool:
        """Whether the metric is an accuracy in %."""
        return self.metric[0] > 50


MNIST_ODE = Figures("MNIST ODE", (253, 177), (97.94, 97.32), (0.98, 0.82), (0.094, 0.060))
LATENT_ODE = Figures("Physionet latent ODE", (733, 287), (3.55, 3.57), (1.75, 0.94), (0.53, 0.21))
SPIRAL_SDE = Figures("spiral SDE", (529, 502), (0.0217, 0.0227), (179, 173), (0.0755, 0.0755))
MNIST_SDE = Figures("MNIST SDE", (411, 185), (96.95, 96.27), (6.32, 4.19), (15.07, 7.23))
PAPER = (MNIST_ODE, LATENT_ODE, SPIRAL_SDE, MNIST_SDE)


@dataclass(frozen=True)
class Experiment:
    """One problem in one framework: the plain model, a front over the weight, and a budget.

    Attributes:
        problem, backend: which ones.
        methods: as texts of `solvertap compare --method`, without the plain model.
        allowed: how much worse than the plain model's the validation metric may be; see `unit`.
        unit: whether `allowed` is in the unit of the metric or a share of the plain model's.
        paper: the table of the paper that it measures again.
        seeds: of the runs.
        solver, epochs, batch_size, tolerance, first_step, optimiser: as options of
            `solvertap compare`; None for the problem's own.
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
    first_step: float | None = None
    optimiser: str | None = None

    @property
    def name(self) -> str:
        """That of its folder."""
        return "-".join(part for part in (self.problem, self.backend, self.solver) if part)

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
