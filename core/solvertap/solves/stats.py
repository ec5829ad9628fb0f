"""The counts of a solve, known under every adjoint and without any term."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


class Stats(NamedTuple):
    """Counts over one or several solves: ints, or each an `Int[Array, ""]` inside a JAX transformation.

    A named tuple, so that a transformed function can return it.

    Attributes:
        solves: how many solves.
        accepted: steps the solvers kept; None where a solver does not show its steps.
        rejected: steps they tried and did not keep; None as for `accepted`.
        evaluations: the solver's own evaluations of the vector field (the drift, for an SDE), as many as without any
            term; None where the solver does not tell.
        diffusion_evaluations: its evaluations of the diffusion; 0 for an ODE.
        measuring: the evaluations of the vector field that terms, or a trace, added to them; in JAX only where
            their values are used, since XLA removes what no output depends on.
        diffusion_measuring: those of the diffusion.
    """

    solves: int = 0
    accepted: Any = 0
    rejected: Any = 0
    evaluations: Any | None = 0
    diffusion_evaluations: Any | None = 0
    measuring: Any | None = 0
    diffusion_measuring: Any | None = 0

    def __add__(self, other: Stats) -> Stats:  # type: ignore[override]  # counts add, they do not concatenate
        return Stats(
            self.solves + other.solves,
            _sum(self.accepted, other.accepted),
            _sum(self.rejected, other.rejected),
            _sum(self.evaluations, other.evaluations),
            _sum(self.diffusion_evaluations, other.diffusion_evaluations),
            _sum(self.measuring, other.measuring),
            _sum(self.diffusion_measuring, other.diffusion_measuring),
        )


@dataclass
class Counts:
    """How often one solve evaluated its field for one purpose. It holds no graph, so that a graph may hold it.

    Attributes:
        evaluations: of the vector field; of the drift, for an SDE.
        diffusion_evaluations: of the diffusion of an SDE.
    """

    evaluations: Any = 0
    diffusion_evaluations: Any = 0

    def move(self, other: Counts, evaluations: Any, diffusion_evaluations: Any) -> None:
        """Moves to `other` what was evaluated since the counts were these two."""
        if self.evaluations is not evaluations:  # not `!=`: those of a traced loop have no truth
            other.evaluations += self.evaluations - evaluations
            self.evaluations = evaluations
        if self.diffusion_evaluations is not diffusion_evaluations:
            other.diffusion_evaluations += self.diffusion_evaluations - diffusion_evaluations
            self.diffusion_evaluations = diffusion_evaluations

    @property
    def as_recomputed(self) -> Stats:
        """These counts as those of a recomputation, which decides no step; no solve where nothing was recomputed."""
        any_at_all = self.evaluations + self.diffusion_evaluations > 0
        return Stats(int(any_at_all), 0, 0, self.evaluations, self.diffusion_evaluations)


def _sum(a: Any | None, b: Any | None) -> Any | None:
    return None if a is None or b is None else a + b
