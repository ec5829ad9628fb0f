"""What the paper measured.

Pal, Ma, Shah, Rackauckas, "Opening the Blackbox" (ICML 2021, arXiv 2105.03918), tables 1 to 4.
"""

from __future__ import annotations

from dataclasses import dataclass


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
