"""The lab: `solvertap compare` and `reproduce`, and problems that every framework trains. A plugin like any other.

Authors of problems import from here; docs/plugins.md has a problem in 40 lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from solvertap import hookimpl

if TYPE_CHECKING:
    from .problems.key import Key
    from .problems.layers import apply, dense
    from .problems.optimiser import Optimiser
    from .problems.problem import Arrays, Batch, Parameters, Problem

__all__ = ["Arrays", "Batch", "Key", "Optimiser", "Parameters", "Problem", "apply", "dense"]

_ROOMS = {
    "Arrays": "problem",
    "Batch": "problem",
    "Key": "key",
    "Optimiser": "optimiser",
    "Parameters": "problem",
    "Problem": "problem",
    "apply": "layers",
    "dense": "layers",
}


# On first use: every program that observes imports its plugins, and these modules import NumPy.
def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.problems.{_ROOMS[name]}"), name)


@hookimpl
def solvertap_problems() -> Mapping[str, Callable[[], Problem]]:
    """The problems of the papers."""
    from .problems.cnf import Cnf
    from .problems.latent import Latent
    from .problems.mnist import Mnist, MnistPal23
    from .problems.mnist_sde import MnistSDE
    from .problems.spiral import Spiral, SpiralSDE

    found = (Mnist, MnistPal23, MnistSDE, Latent, Cnf, Spiral, SpiralSDE)
    return {problem.name: problem for problem in found}


@hookimpl
def solvertap_commands() -> list[Callable[..., None]]:
    """`solvertap compare` and `solvertap reproduce`."""
    from .command import compare
    from .paper.reproduce import reproduce

    return [compare, reproduce]
