"""A batch of solves whose steps are given: each sample has a list of (h, accepted) of its own, in any array library."""

from array_api_compat import array_namespace

import solvertap as tap
from solvertap.adapting import Adapter, Serves, Stages, Tableau, open_solve
from tests.numpy_solver import B_EMBEDDED, TABLEAU, A, C

ERROR = tuple(a - b for a, b in zip((*A[-1], 0), B_EMBEDDED, strict=True))
SLOPES = Tableau(c=C, b=TABLEAU.b, a=A, e=ERROR)
TOLERANCES = {"rtol": 1e-4, "atol": 1e-4}


class BatchAdapter(Adapter):
    """Opened by hand; it patches nothing."""

    name = "batch-loop"
    module = __name__
    serves = Serves(batches=True, samples=True)

    def attach(self, patches):
        pass


def rk_step(field, t, y, h):
    """y1, its error and the slopes; t and h of one solve, or one for each sample."""
    along = h[:, None] if getattr(h, "ndim", 0) else h
    slopes = []
    for c, row in zip(C, A, strict=True):
        state = y + along * sum((a * k for a, k in zip(row, slopes, strict=True)), 0 * y)
        slopes.append(field(t + c * h, state))
    return state, along * sum(e * k for e, k in zip(ERROR, slopes, strict=True)), slopes


def solve_alone(adapter, field, y, grid):
    """One sample by its steps."""
    solve, t = open_solve(adapter, like=y), 0.0
    with solve:
        _begin(solve, field, None)
        for h, accepted in grid:
            y1, error, slopes = rk_step(field, t, y, h)
            solve.step(_step(field, t, h, y, y1, error, slopes, accepted=accepted))
            t, y = (t + h, y1) if accepted else (t, y)
    return solve


def solve_together(adapter, field, y, grids, spoil=None):
    """All samples at once; `spoil` is what those that take no step have for what was computed of it."""
    xp, size = array_namespace(y), len(grids)
    solve, t = open_solve(adapter, like=y, batch=size), xp.zeros((size,), dtype=y.dtype)
    with solve:
        _begin(solve, field, size)
        for n in range(max(map(len, grids))):
            attempted = xp.asarray([n < len(grid) for grid in grids])
            accepted = xp.asarray([n >= len(grid) or grid[n][1] for grid in grids])  # whatever it is at the end
            h = xp.asarray([grid[n][0] if n < len(grid) else 0.0 for grid in grids], dtype=y.dtype)
            y1, error, slopes = rk_step(field, t, y, h)
            taken = (attempted & accepted)[:, None]
            if spoil is not None:
                y1, error, *slopes = (xp.where(taken, x, xp.full_like(x, spoil)) for x in (y1, error, *slopes))
            solve.step(_step(field, t, h, y, y1, error, slopes, accepted=accepted, attempted=attempted))
            t, y = xp.where(taken[:, 0], t + h, t), xp.where(taken, y1, y)
    return solve


def _begin(solve, field, size):
    if solve.extra_step is not None:
        solve.extra_step.begin(lambda t0, y0, t1: _step(field, t0, t1 - t0, y0, *rk_step(field, t0, y0, t1 - t0)))


def _step(field, t, h, y, y1, error, slopes, **flags):
    stages = Stages(slopes=slopes, tableau=SLOPES)
    return tap.Step(t0=t, t1=t + h, y0=y, y1=y1, error=error, stages=stages, field=field, **TOLERANCES, **flags)
