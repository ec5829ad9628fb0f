"""The papers' own settings, by name.

Pal21 is Pal, Ma, Shah, Rackauckas, "Opening the Blackbox" (ICML 2021, arXiv 2105.03918). Its text and its code
(avik-pal/RegNeuralDE.jl) disagree on what is summed, so each experiment has a preset for both:
`pal21-mnist-ode-error` is what the code computes, `pal21-mnist-ode-error-text` what the text writes, with the
weights of the code. docs/mathematics.md has the differences, with numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import UnknownKeyError
from .error_and_stiffness import SOSRI2_STABILITY_SIZE, TSIT5_STABILITY_SIZE, LocalError, Stiffness
from .schedule import anneal
from .term import Term


@dataclass(frozen=True)
class Preset:
    """A term and the weights between which it is annealed over training.

    Attributes:
        term: the term, unweighted: which measure, on which scale, reduced how.
        start, stop: the weight at the first and the last epoch; equal where the paper does not anneal.
        epochs: how many epochs (for the spiral, iterations) the paper trains.
        source: where the setting is written.
    """

    term: Term
    start: float
    stop: float
    epochs: int
    source: str

    def at(self, epoch: Any, epochs: float | None = None) -> Term:
        """The weighted term at an epoch, a number or a traced value, of the paper's epochs or of your own."""
        weight = anneal(self.start, self.stop, self.epochs if epochs is None else epochs)
        weighted: Term = self.term * weight(epoch)
        return weighted


_EXPERIMENTS = {
    # file in experiments/, epochs
    "mnist-ode": ("mnist_node.jl", 75),
    "physionet": ("latent_ode.jl", 300),
    "spiral-sde": ("sde_toy_problem.jl", 250),
    "mnist-sde": ("mnist_nsde.jl", 40),
    "ffjord-gaussian": ("ffjord_gaussian.jl", 20),
    "ffjord-tabular": ("ffjord_tabular.jl", 500),
}

_MEAN_ERROR = LocalError(reduce="mean")
_PEAK_STIFFNESS = Stiffness(reduce="max", stability_size=TSIT5_STABILITY_SIZE)
_MEAN_STIFFNESS = Stiffness(reduce="mean", stability_size=TSIT5_STABILITY_SIZE)
_BOTH = _MEAN_ERROR + 0.1 * _MEAN_STIFFNESS

_CODE: dict[tuple[str, str], tuple[Term, float, float]] = {
    ("mnist-ode", "error"): (_MEAN_ERROR, 100.0, 10.0),
    ("mnist-ode", "stiffness"): (_PEAK_STIFFNESS, 0.1, 0.1),
    ("mnist-ode", "both"): (_BOTH, 10.0, 10.0),
    ("physionet", "error"): (_MEAN_ERROR, 1000.0, 100.0),
    ("physionet", "stiffness"): (_PEAK_STIFFNESS, 10.0, 10.0),
    ("physionet", "both"): (_BOTH, 10.0, 10.0),
    ("spiral-sde", "error"): (LocalError(), 0.2, 0.2),
    # The code has the error alone; the stiffness of the text's table is read in the same way.
    ("spiral-sde", "stiffness"): (Stiffness(), 0.2, 0.2),
    ("mnist-sde", "error"): (_MEAN_ERROR, 10.0, 10.0),
    ("mnist-sde", "stiffness"): (Stiffness(reduce="mean", stability_size=SOSRI2_STABILITY_SIZE), 0.1, 0.1),
    ("ffjord-gaussian", "error"): (_MEAN_ERROR, 2000.0, 1000.0),
    ("ffjord-tabular", "error"): (_MEAN_ERROR, 5000.0, 1000.0),
}

_TEXT: dict[str, Term] = {
    "error": LocalError(scale="raw"),
    "stiffness": Stiffness(),
    "both": LocalError(scale="raw") + 0.1 * Stiffness(),
}


def _presets() -> Iterator[tuple[str, Preset]]:
    for (experiment, kind), (term, start, stop) in _CODE.items():
        name, (file, epochs) = f"pal21-{experiment}-{kind}", _EXPERIMENTS[experiment]
        yield name, Preset(term, start, stop, epochs, f"code, experiments/{file}")
        yield (
            f"{name}-text",
            Preset(_TEXT[kind], start, stop, epochs, "the formula of the text, the weights of the code"),
        )


class _Presets(dict[str, Preset]):
    """A dictionary whose error for an unknown key lists the known ones."""

    def __missing__(self, name: str) -> Preset:
        raise UnknownKeyError.of("preset", name, list(self))


PRESETS: dict[str, Preset] = _Presets(_presets())
