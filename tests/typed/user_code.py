"""What a user writes, as a strict type checker reads it: pyright runs on this file, nobody runs it.

A line that is wrong says which rule is to refuse it; that it is refused is checked as well, since an ignore that is not
needed is an error here.
"""

from collections.abc import Callable
from typing import Any, assert_type

import solvertap as tap
from solvertap.adapting import Adapter, Patches, Solve, open_solve
from solvertap.explaining.places import Explanation


def solve(y0: float, *, rtol: float = 1e-6) -> float:
    return y0 * rtol


# Terms: settings, sums, weights, functions, text.
error = tap.LocalError(reduce="mean", rtol=1e-3)
assert_type(error, tap.LocalError)
penalty = 100 * error + 0.1 * tap.Stiffness() + tap.LocalSample(error)
assert_type(penalty, tap.Term)
assert_type(tap.anneal(100.0, 10.0, 500), Callable[[Any], Any])
assert_type(tap.parse_term("100*local_error")(0), tap.Term)
tap.LocalError(reduce="most")  # pyright: ignore[reportArgumentType]
tap.observe("100*local_error")  # pyright: ignore[reportArgumentType]


def largest(step: tap.Step) -> Any:
    return step.h


assert_type(tap.term(largest, name="largest"), tap.StepTerm)

# What a block gives, and that the block itself gives nothing.
with tap.observe(penalty, trace=True, by=("sample", "part")) as seen:
    assert_type(solve(1.0), float)
assert_type(seen, tap.Observation)
assert_type(seen.penalty, Any)
assert_type(seen.values, dict[str, Any])
assert_type(seen.stats, tap.Stats)
assert_type(seen.stats.solves, int)
assert_type(seen.trace, tap.Trace)
assert_type(seen.solves, tuple[Solve, ...])
assert_type(seen.explain(), list[Explanation])
_ = tap.observe(penalty).stats  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
_ = tap.open_solve  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
tap.observe(penalty, by="samples")  # pyright: ignore[reportArgumentType]

# A tapped function takes what it took, and gives what it gave beside the observation.
tapped = tap.tapped(solve, penalty)
assert_type(tapped(1.0, rtol=1e-3), tuple[float, tap.Observation])
tapped("1")  # pyright: ignore[reportArgumentType]

# Regularizing: a term, a text, a schedule or a budget.
weight = tap.anneal(100.0, 10.0, 500)
with tap.regularize(lambda k: weight(k) * error) as regularizer:
    assert_type(solve(1.0), float)
assert_type(regularizer, tap.regularize)
assert_type(regularizer.stats, dict[str, tap.Stats])
assert_type(regularizer.k, int)
for regularized in (penalty, "100*local_error", tap.budget(steps=5), None):
    tap.regularize(regularized).start().stop()
tap.regularize(penalty, passes="some")  # pyright: ignore[reportArgumentType]


def listen(record: tap.Record) -> None:
    assert_type(record.adapter, str)


tap.regularize(penalty, listener=listen)


# Adapters, and observers.
class Mine(Adapter):
    name, module = "mine", "mine"

    def attach(self, patches: Patches) -> None:
        assert_type(patches.undone, int)
        with open_solve(self, like=0.0) or tap.unobserved():
            pass


class Observer:
    @tap.hookimpl
    def solvertap_solve_finished(self, adapter: str, stats: tap.Stats, phase: str) -> None:
        assert_type(stats.solves, int)


tap.register(Mine())
tap.register(Observer())
