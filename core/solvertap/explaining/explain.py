"""What limits the steps of a solve."""

from __future__ import annotations

from collections.abc import Sequence

from .anatomy import Anatomy
from .limits import accuracy, rounding, stability
from .noise import field_noise
from .spans import first_step, last_steps, rejections
from .verdict import Verdict


def explain_solve(anatomy: Anatomy, random_layers: Sequence[str] = ()) -> list[Verdict]:
    """Every illness of one solve; none where it is healthy, or where nothing can be said.

    What explains others stands for them: a stiff problem has rejections, and one below the rounding has many steps,
    which are no illnesses of their own.

    Args:
        anatomy: of the solve.
        random_layers: of its field, as of `Solve`.
    """
    causes = [verdict for verdict in (field_noise(random_layers), rounding(anatomy), stability(anatomy)) if verdict]
    if causes:
        return causes[:1]
    spans = [verdict for verdict in (rejections(anatomy), last_steps(anatomy), first_step(anatomy)) if verdict]
    found = max(spans, key=lambda verdict: verdict.share, default=None) or accuracy(anatomy)
    return [] if found is None else [found]
