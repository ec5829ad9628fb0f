"""What rides through a traced loop for a replay: of each accepted step the numbers by which it is taken again."""

from __future__ import annotations

from array_api_compat import device

from ..steps.arrays import Array, array_namespace
from ..steps.entries import does_not_fit

Grid = tuple[Array, ...]
"""For each number that is noted of a step an array of the length of the bound."""


def empty_grid(adapter: str, noted: Grid, bound: int | None) -> Grid:
    """The grid before the first step.

    Args:
        adapter: its name, for what does not fit.
        noted: scalars such as those that will be noted.
        bound: the most steps that the loop attempts.

    Raises:
        StepError: there is no bound, or nothing is noted.
    """
    if bound is None or not noted:
        wanted = "give `ride` a `capacity` and what is `noted` of a step, or call `refuse_replay`"
        does_not_fit(adapter, "rides for a replay without room for its steps", wanted)
    xp = array_namespace(noted[0])
    return tuple(xp.zeros((bound,), dtype=x.dtype, device=device(x)) for x in noted)


def with_step(adapter: str, grid: Grid, n: Array, kept: Array, noted: Grid) -> Grid:
    """The grid with the n-th accepted step, if that is `kept`.

    Raises:
        StepError: something else is noted of it than of the first.
    """
    if len(noted) != len(grid):
        wanted = f"give `update` the {len(grid)} that `ride` was told of"
        does_not_fit(adapter, f"noted {len(noted)} numbers of a step", wanted)
    xp = array_namespace(n)
    here = (xp.arange(grid[0].shape[0]) == n) & kept
    pairs = zip(noted, grid, strict=True)
    return tuple(xp.where(here, xp.astype(xp.asarray(x), column.dtype, copy=False), column) for x, column in pairs)
