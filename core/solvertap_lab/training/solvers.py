"""The solvers that `--solver` names, the default of each backend first. Imports no framework."""

from __future__ import annotations

from ..problems.problem import Problem

ODES: dict[str, tuple[str, ...]] = {
    "torchdiffeq": ("dopri5", "bosh3", "adaptive_heun", "fehlberg2", "dopri8"),
    "diffrax": ("dopri5", "tsit5", "bosh3", "dopri8"),
    "torchode": ("dopri5", "tsit5"),
    "torchdyn": ("dopri5", "tsit5"),
}
SDES: dict[str, tuple[str, ...]] = {
    # Of diagonal noise in the sense of Stratonovich. A "half" takes each step in two halves as well, for an error.
    "torchsde": ("heun", "midpoint", "euler_heun", "milstein"),
    "diffrax": ("half-heun", "half-midpoint", "spark"),
}


def solvers(backend: str, problem: Problem) -> tuple[str, ...]:
    """The names of the solvers that a backend has for a problem; none where it cannot solve it."""
    return (SDES if problem.stochastic else ODES).get(backend, ())
