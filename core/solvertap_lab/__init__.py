"""Experiments: problems that every framework trains, and `solvertap compare`. A plugin like any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from solvertap import hookimpl

if TYPE_CHECKING:
    from .problem import Problem


@hookimpl
def solvertap_problems() -> Mapping[str, Callable[[], Problem]]:
    """The problems of the papers."""
    from .mnist import Mnist
    from .spiral import Spiral, SpiralSDE

    return {problem.name: problem for problem in (Mnist, Spiral, SpiralSDE)}


@hookimpl
def solvertap_commands() -> list[Callable[..., None]]:
    """`solvertap compare`."""
    from .command import compare

    return [compare]
