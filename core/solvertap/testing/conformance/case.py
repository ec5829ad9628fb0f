"""One adapter on its trial problem: what every promise of the kit needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...attaching.adapter import Adapter
from ...attaching.trial import Trial
from ...observing.observation import Observation
from ...observing.observe import observe
from ...plugins.hookspecs import hookimpl
from ...plugins.registry import plugins
from ...steps.step import Step
from ...terms.error_and_stiffness import LocalError, Stiffness
from ...terms.step_term import StepTerm
from ...terms.sums import add
from ...terms.term import Term

Vector = np.ndarray[Any, Any]

PARAMETERS = np.array([1.2, -0.4, 0.7, 0.5])
ROWS = 200  # of a trace: more than the trial problem takes
START = np.array([[1.0, -0.5], [0.3, 0.8]])


@dataclass
class Case:
    """One adapter on its trial problem.

    Attributes:
        adapter, trial: the adapter and how its library solves.
        refused: the terms that the adapter refuses on its trial, with the refusal.
    """

    adapter: Adapter
    trial: Trial
    refused: dict[StepTerm, Exception] = field(default_factory=dict)

    @property
    def parameters(self) -> Any:
        """The parameters as an array of the library, in float64."""
        return self.trial.array(PARAMETERS)

    @property
    def local_error(self) -> LocalError:
        """E, by the tolerances of the trial where the solver has none of its own."""
        return LocalError(rtol=self.trial.rtol, atol=self.trial.atol)

    @property
    def terms(self) -> list[StepTerm]:
        """E and S, those that are served."""
        return [term for term in (self.local_error, Stiffness()) if term not in self.refused]

    @property
    def term(self) -> Term | None:
        """Their sum; None where both are refused."""
        return add(1.0 * term for term in self.terms) if self.terms else None

    def observe(self, term: Term | None = None, **options: Any) -> observe:
        """A block that observes solves of this adapter; full terms by replay, where its steps carry no gradient."""
        serves = self.adapter.serves
        given: dict[str, Any] = {"replay": serves.replay and not serves.terms} | options
        return observe(term, **given)

    def solve(self, parameters: Any, y0: Any = None, **changes: Any) -> Any:
        """The state at the end of the trial problem; `field`, `t1`, `first` and the method may be changed."""
        trial, method = self.trial, changes.pop("method", None)
        given: dict[str, Any] = {"field": trial.field, "t0": trial.t0, "t1": trial.t1, "first": trial.first} | changes
        start = trial.array(START.astype(self.dtype_of(parameters))) if y0 is None else y0
        solve = trial.solve if method is None else method
        return solve(
            given["field"], parameters, start, given["t0"], given["t1"], rtol=trial.rtol, atol=trial.atol,
            first=given["first"],
        )  # fmt: skip

    def one_step(self, parameters: Any, y0: Any, t0: Any, t1: Any) -> Any:
        """The state at the end of one step."""
        trial = self.trial
        return trial.one_step(trial.field, parameters, y0, t0, t1, rtol=trial.rtol, atol=trial.atol)

    def numpy(self, x: Any) -> Vector:
        """An array on the host."""
        return np.asarray(self.adapter.to_numpy(x))

    def number(self, x: Any) -> float:
        """A scalar on the host; of a batch of one sample, its only entry."""
        return float(self.numpy(x).reshape(())) if hasattr(x, "dtype") else float(x)

    def dtype_of(self, x: Any) -> Any:
        """The dtype of an array of the library, which may be traced, as NumPy's."""
        return np.dtype(str(x.dtype).rpartition(".")[2])

    def trace(self, seen: Observation) -> dict[str, Vector]:
        """The columns of the trace of the one solve of a block."""
        (trace,) = seen.trace.samples()
        return trace.numpy()

    @contextmanager
    def steps(self) -> Iterator[list[dict[str, Any]]]:
        """A block that keeps what the adapter hands over in each attempted step, as NumPy arrays."""
        kept: list[dict[str, Any]] = []
        listener = _Listener(self.trial, kept)
        plugins().register(listener, f"conformance of {self.adapter.name}")
        try:
            yield kept
            self.trial.settle()
        finally:
            plugins().unregister(listener)
        kept.sort(key=lambda step: (abs(step["t0"] - self.trial.t0), -abs(step["t1"] - step["t0"])))


class _Listener:
    """Hears of every step, and has its arrays shown."""

    def __init__(self, trial: Trial, kept: list[dict[str, Any]]) -> None:
        self.trial = trial
        self.kept = kept

    @hookimpl
    def solvertap_step(self, step: Step) -> None:
        stages = step.stages
        slopes = None if stages is None else stages.slopes
        listed = isinstance(slopes, list)
        names = ["t0", "t1", "y0", "y1"]
        names += [name for name in ("error", "y1_embedded", "error_ratio") if getattr(step, name) is not None]
        arrays = [getattr(step, name) for name in names]
        names += [] if stages is None else ["unit"]
        arrays += [] if stages is None else [stages.unit]
        arrays += [] if slopes is None else slopes if listed else [slopes]

        def keep(*values: Any) -> None:
            shown: dict[str, Any] = dict(zip(names, values, strict=False))
            rest = values[len(names) :]
            shown["k"] = None if slopes is None else list(rest if listed else rest[0])
            shown = _first_sample(shown)
            if stages is not None:
                shown |= {"tableau": stages.tableau, "k": [k / shown["unit"] for k in shown["k"]]}
            flat = {name: x.ravel() for name, x in shown.items() if isinstance(x, np.ndarray) and x.ndim}
            self.kept.append(shown | flat)

        self.trial.reveal(keep, arrays)


def _first_sample(shown: dict[str, Any]) -> dict[str, Any]:
    """The step of the one sample of a batch; of one solve, the step itself."""
    if np.ndim(shown["t0"]) == 0:
        return shown
    slopes = shown.pop("k")
    first = {name: x[0] if np.ndim(x) > 0 else x for name, x in shown.items()}
    return first | {"k": None if slopes is None else [k[0] for k in slopes]}
