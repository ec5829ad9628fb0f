"""Runs the promises against an adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from ...attaching.adapter import Adapter
from ...attaching.trial import Trial
from ...plugins.attachment import attach, detach, misfits
from ...plugins.registry import plugins
from ...steps.checking import every_step
from ...terms.error_and_stiffness import Stiffness
from . import adjoints, batches, counts, neutrality, observers, requests, steps, surroundings, terms
from .case import Case
from .facts import Fact, Report

Promise = Callable[[Case], Iterator[Fact]]

PROMISES: Mapping[str, Promise] = {
    "neutral": neutrality.eager,
    "neutral in float32": neutrality.single,
    "neutral when compiled": neutrality.compiled,
    "neutral under checkpoint": neutrality.checkpointed,
    "regularized": neutrality.regularized,
    "steps": steps.handed_over,
    "counts": counts.counted,
    "terms": terms.every,
    "samples": terms.sampled,
    "alignment": requests.aligned,
    "adjoint": adjoints.counted_once,
    "refusals": requests.undeclared,
    "observers": observers.told,
    "escapes": observers.escaped,
    "batches": batches.each_as_alone,
    "early import": surroundings.imported_early,
    "fields that raise": surroundings.raising,
    "fields that solve": surroundings.solving,
    "threads": surroundings.threads,
    "detaching": surroundings.detached,
}
"""Every promise, by name."""

QUICK: Mapping[str, Promise] = {
    "neutral": neutrality.eager,
    "terms": terms.quick,
    "restored": surroundings.restored,
}
"""What `solvertap doctor` runs."""


def examine(
    adapter: Adapter,
    trial: Trial | None = None,
    *,
    device: str | None = None,
    promises: Mapping[str, Promise] = PROMISES,
) -> Report:
    """Runs promises against an adapter, on its trial problem. Detaches every adapter before and after.

    Args:
        adapter: its library must be imported.
        trial: how the library solves; None for the adapter's own.
        device: where to solve, by the framework's name for it; None for its default.
        promises: by name; all by default.
    """
    report = Report(adapter)
    detach()
    try:
        with _registered(adapter), every_step():
            attach()
            misfit = misfits().get(adapter.name)
            report.facts.append(Fact("fits", misfit is None, misfit or "every probe found what it needs"))
            trial = adapter.trial(device) if trial is None else trial
            report.tried = trial is not None
            if trial is None:
                report.facts += surroundings.given_back(adapter)
            elif misfit is None:
                with trial.environment():
                    _examine(report, Case(adapter, trial), promises)
    except Exception as error:  # whatever a library raises is reported as a fact
        report.facts.append(Fact("runs", False, f"The trial raised {type(error).__name__}: {error}"))
    finally:
        detach()
    return report


def promise(name: str, adapter: Adapter, trial: Trial | None = None) -> Report:
    """Runs one promise."""
    return examine(adapter, trial, promises={name: PROMISES[name]})


def _examine(report: Report, case: Case, promises: Mapping[str, Promise]) -> None:
    for term in (case.local_error, Stiffness()):
        refused = terms.refusal(case, term)
        if refused is not None:
            case.refused[term] = refused
            report.facts.append(Fact(term.name, True, f"refused: {refused}"))
    report.refused = tuple(term.name for term in case.refused)
    for name, check in promises.items():
        try:
            report.facts.extend(check(case))
        except Exception as error:  # as above; the other promises are examined all the same
            report.facts.append(Fact(name, False, f"raised {type(error).__name__}: {error}"))


@contextmanager
def _registered(adapter: Adapter) -> Iterator[None]:
    """A block in which an adapter is known by its name, instead of whatever has that name."""
    adapters = plugins().adapters
    known = adapters.get(adapter.name)
    adapters[adapter.name] = adapter
    try:
        yield
    finally:
        detach(adapter.name)
        if known is None:
            del adapters[adapter.name]
        else:
            adapters[adapter.name] = known
