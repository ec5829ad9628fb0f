"""The summary that `solvertap run` prints when the script has ended."""

from __future__ import annotations

from collections.abc import Callable

from rich.table import Table

from ..observing.budget import TARGETS, budget
from ..observing.budget_state import BudgetState
from ..observing.regularize import regularize
from ..terms.term import Term
from .totals import Totals

_TRAINS = (
    "a pass that trains builds no graph and accumulates into what a `torch.optim` optimiser holds, or is a "
    "reverse-mode pass of JAX. If this is training, pass `--passes all`."
)


def table_of(totals: Totals) -> Table:
    """One row for each kind of solve and method."""
    measured = any(stats.measuring for stats in totals.stats.values())
    table = Table(title="solvertap")
    table.add_column("solves of")
    table.add_column("method")
    for heading in ("solves", "evaluations a solve", *(["for the terms"] if measured else []), "accepted", "rejected"):
        table.add_column(heading, justify="right")
    for group, stats in totals.stats.items():
        own, added = (_per_solve(x, stats.solves) for x in (stats.evaluations, stats.measuring))
        steps = ["-" if count is None else str(count) for count in (stats.accepted, stats.rejected)]
        columns = [str(stats.solves), own, *([added] if measured else []), *steps]
        table.add_row(group.kind, f"{group.adapter} {group.method}".rstrip(), *columns)
    return table


def _per_solve(evaluations: int | None, solves: int) -> str:
    return "-" if evaluations is None or not solves else f"{evaluations / solves:.1f}"


Penalty = Callable[[int], Term] | budget | None


def sentences(regularizer: regularize, totals: Totals, term: Penalty) -> list[str]:
    """What the table does not say: failed solves, the penalty, and where and why a term was not added."""
    found = []
    if not totals.stats and not regularizer.failed:
        found.append("solvertap saw no solve.")
    elif regularizer.failed:
        others = "" if totals.stats else ", and no other was seen"
        found.append(
            f"{_solves(regularizer.failed)} failed{others}; `observe(trace=True)` keeps the steps of a failed one."
        )
    if term is not None and totals.penalized:
        found.append(_penalty(regularizer, totals, term))
    elif term is not None and totals.stats:
        found.append(f"No solve took the term: {_why_none(regularizer, totals)}")
    if isinstance(term, budget) and totals.penalized:
        found.append(_budget(regularizer, term))
    for place, solves in regularizer.untrained.items():
        found.append(f"No backward pass that trains came through the {_solves(solves)} at {place}; {_TRAINS}")
    for reason, solves in regularizer.left_out.items():
        found.append(f"{_solves(solves)} went without a term: {reason}")
    return found


def _budget(regularizer: regularize, wanted: budget) -> str:
    state = regularizer.budget_state
    if state is None or not state.measured:
        return (
            "The budget has found no weight: no loss was seen whose gradient an optimiser of torch takes by "
            "`backward`, or that `jax.grad` or `jax.value_and_grad` takes."
        )
    target, unit = next((x, name) for name in TARGETS if (x := getattr(wanted, name)) is not None)
    level = f"{float(state.level):.3g} at the end"
    if unit == "loss":
        best = float(state.reference)
        return f"Budget: the loss at most {target:g} above its best level, {best:.3g}; {level}{_at_cap(state)}."
    most = f"{target:g} of {float(state.reference):.3g} steps" if unit == "fraction" else f"{target:g} {unit}"
    return f"Budget: at most {most} a solve; {level}{_at_cap(state)}."


def _at_cap(state: BudgetState) -> str:
    return ", with the weight at its cap" if state.log_share > -0.01 and state.excess > 0 else ""


def _penalty(regularizer: regularize, totals: Totals, term: Callable[[int], Term] | budget) -> str:
    mean = f"{totals.penalty / totals.known:.4g}" if totals.known else "unknown"
    last = "" if totals.last is None else f", {totals.last:.4g} at the end"
    state = regularizer.budget_state
    if isinstance(term, budget):
        first, now = _weights(term.at(term.init())), _weights(term.at(term.init() if state is None else state))
    else:
        first, now = _weights(term(0)), _weights(term(totals.steps))
    weights = ", ".join(
        f"{name} {weight:.4g}" + (f" to {now[name]:.4g}" if now[name] != weight else "")
        for name, weight in first.items()
    )
    passes = regularizer.backward_passes
    left = f", {passes['left']} that do not train were left alone" if passes["left"] else ""
    carried = (
        f"its gradient was added in {passes['carried']} backward passes through a solve{left}"
        if passes["carried"]
        else "no backward pass that trains went through them, so its gradient was added nowhere"
    )
    return f"Penalty of {_solves(totals.penalized)}: mean {mean}{last} (weights: {weights}); {carried}."


def _weights(term: Term) -> dict[str, float]:
    weights: dict[str, float] = {}
    for weight, each in term.pairs():
        weights[each.name] = weights.get(each.name, 0.0) + float(weight)
    return weights


def _why_none(regularizer: regularize, totals: Totals) -> str:
    if regularizer.left_out:
        return "the reasons follow."
    if not any(group.kind == "training" for group in totals.stats):
        return (
            f"gradients were recorded in none of them ({_kinds(totals)}). If the script trains nevertheless, it may "
            "solve inside an `autograd.Function` of its own."
        )
    return "its weight was zero."


def _kinds(totals: Totals) -> str:
    kinds: dict[str, int] = {}
    for group, stats in totals.stats.items():
        kinds[group.kind] = kinds.get(group.kind, 0) + stats.solves
    return ", ".join(f"{solves} {kind}" for kind, solves in kinds.items())


def _solves(number: int) -> str:
    return f"{number} solve{'' if number == 1 else 's'}"
