"""What an adapter declares that it serves."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Serves:
    """What an adapter serves. The core refuses what is not declared, before the solve begins, and names the remedy.

    `solvertap adapters` shows it as a table, and `solvertap.testing.conformance` tests exactly what is declared.

    Attributes:
        terms: full terms, measured on every accepted step: the steps that it hands over carry gradient.
        trace: it hands over every attempted step, so that there is a trace and a count of them.
        samples: `LocalSample`: it calls `ExtraStep.begin` where a solve has an `extra_step`.
        replay: terms with `replay`, if steps carry no gradient: it calls `Replay.begin` where a solve has a `replay`.
        align: the reference steps, where `Solve.align` is set.
        checkpoint: a backward pass that computes the steps again, where `Solve.checkpoint` is set.
        regularize: it has `inject`, and returns what `Solve.through` gives.
        batches: solves whose samples take steps of their own, opened with `open_solve(..., batch=...)`.
    """

    terms: bool = True
    trace: bool = True
    samples: bool = False
    replay: bool = False
    align: bool = False
    checkpoint: bool = False
    regularize: bool = False
    batches: bool = False

    def __contains__(self, name: str) -> bool:
        return bool(getattr(self, name))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what is served."""
        return tuple(name for name in CAPABILITIES if name in self)


CAPABILITIES = tuple(field.name for field in fields(Serves))
