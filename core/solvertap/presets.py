"""The papers' own settings, by name.

Pal21 is Pal, Ma, Shah, Rackauckas, "Opening the Blackbox" (ICML 2021, arXiv 2105.03918). Where its text and
its code (avik-pal/RegNeuralDE.jl) disagree there is a preset for each: docs/mathematics.md has the table.
"""

from __future__ import annotations

from dataclasses import dataclass

from .builtin_terms import TSIT5_STABILITY_SIZE, LocalError, Stiffness
from .terms import Term


@dataclass(frozen=True)
class Preset:
    """A term and the weights between which it is annealed over training.

    Attributes:
        term: the term, unweighted.
        start, stop: the weight at the first and the last epoch; equal where the paper does not anneal.
        source: where the setting is written.
    """

    term: Term
    start: float
    stop: float
    source: str


_MEAN_ERROR = LocalError(reduce="mean")
_CODE_STIFFNESS = Stiffness(reduce="max", stability_size=TSIT5_STABILITY_SIZE)
_MEAN_STIFFNESS = Stiffness(reduce="mean", stability_size=TSIT5_STABILITY_SIZE)

PRESETS: dict[str, Preset] = {
    "pal21-text-error": Preset(LocalError(scale="raw"), 1.0, 1.0, "text: sum of E h, unscaled"),
    "pal21-text-stiffness": Preset(Stiffness(), 1.0, 1.0, "text: sum of S"),
    "pal21-mnist-ode-error": Preset(_MEAN_ERROR, 100.0, 10.0, "code, mnist_node: mean of E h"),
    "pal21-mnist-ode-stiffness": Preset(_CODE_STIFFNESS, 0.1, 0.1, "code, mnist_node: max of S / 3.5068"),
    "pal21-mnist-ode-both": Preset(
        _MEAN_ERROR + 0.1 * _MEAN_STIFFNESS, 10.0, 10.0, "code, mnist_node: mean of E h + 0.1 S / 3.5068"
    ),
    "pal21-physionet-error": Preset(_MEAN_ERROR, 1000.0, 100.0, "code, latent_ode: mean of E h"),
    "pal21-physionet-stiffness": Preset(_CODE_STIFFNESS, 10.0, 10.0, "code, latent_ode: max of S / 3.5068"),
    "pal21-spiral-sde-error": Preset(LocalError(), 0.2, 0.2, "code, spiral_nsde: sum of E h"),
    "pal21-spiral-sde-stiffness": Preset(Stiffness(), 0.2, 0.2, "code, spiral_nsde: sum of S"),
    "pal21-mnist-sde-error": Preset(_MEAN_ERROR, 10.0, 10.0, "code, mnist_nsde: mean of E h"),
    "pal21-mnist-sde-stiffness": Preset(Stiffness(reduce="mean"), 0.1, 0.1, "code, mnist_nsde: mean of S"),
}
