"""What limits the steps of a solve."""

from __future__ import annotations

from collections.abc import Sequence

from .anatomy import Anatomy
from .limits import accuracy, rounding, stability
from .noise import field_noise
from .shares import one_part, one_sample
from .spans import first_step, last_steps, rejections
from .verdict import Verdict


def explain_solve(anatomy: Anatomy, random_layers: Sequence[str] = ()) -> Verdict | None:
    """What limits the steps of one solve; None where it is healthy, or where nothing can be said.

    What explains others stands for them: a stiff problem has rejections, and one below the rounding has many steps,
    which are no illnesses of their own.

    Args:
        anatomy: of the solve.
        random_layers: of its field, as of `Solve`.
    """
    cause = field_noise(random_layers) or rounding(anatomy) or stability(anatomy)
    if cause is not None:
        return cause
    if anatomy.told:
        return None
    spans = [verdict for verdict in (rejections(anatomy), last_steps(anatomy), first_step(anatomy)) if verdict]
    span = max(spans, key=lambda verdict: verdict.share, default=None)
    return span or one_sample(anatomy) or one_part(anatomy) or accuracy(anatomy)
