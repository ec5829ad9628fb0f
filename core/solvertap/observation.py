"""What was seen of the solves of one block."""

from __future__ import annotations

from array_api_compat import array_namespace

from .adapter import Adapter
from .attachment import attached
from .errors import EscapedTraceError, InvalidInputError, MixedFrameworksError, NothingObservedError
from .plugins import plugins
from .solve import Solve
from .state import Array
from .statistics import Stats
from .terms import StepTerm, Term, combine, total
from .trace import Trace


class Observation:
    """What was seen of the solves inside one `observe` block.

    Values may be read inside the block as soon as a solve has returned, and after it.

    Attributes:
        weighted: the (weight, term) pairs that are penalized.
        trace_wanted, align: as given to `observe`.
        opened: every solve that began, those that failed included.
    """

    def __init__(self, term: Term | None, trace: bool, align: bool) -> None:
        self.weighted = term.pairs() if term is not None else ()
        self.trace_wanted = trace
        self.align = align
        self.opened: list[Solve] = []
        adapters = plugins().adapters
        self._scopes = {name: adapters[name].scope() for name in attached()}

    @property
    def solves(self) -> tuple[Solve, ...]:
        """The observed solves, in the order in which they began; those that failed are left out."""
        return tuple(solve for solve in self.opened if not solve.abandoned)

    @property
    def penalty(self) -> Array:
        """The weighted sum of the terms over all solves: a real scalar of the solves' own framework.

        It carries gradient to whatever the states of the accepted steps depend on; times and step sizes are
        constants.

        Raises:
            NothingObservedError: no solve was seen, or no term was asked for.
            MixedFrameworksError: the solves belong to two frameworks.
        """
        return combine(self.weighted, self._totals())

    @property
    def values(self) -> dict[str, Array]:
        """The value of each term by name, unweighted, added over all solves.

        Raises:
            NothingObservedError, MixedFrameworksError: as for `penalty`.
        """
        return {term.name: total for term, total in self._totals().items()}

    @property
    def stats(self) -> Stats:
        """The counts over all solves; zeros where none was seen."""
        return sum((solve.stats for solve in self.solves), start=Stats())

    @property
    def trace(self) -> Trace:
        """The trace of the one solve of this block; where there are several, each of `solves` has its own.

        Raises:
            InvalidInputError: no trace was asked for, or there are several.
            NothingObservedError: no solve was seen.
        """
        if not self.trace_wanted:
            raise InvalidInputError("No trace was kept; ask for it with `observe(..., trace=True)`.")
        solve, *others = self._seen()
        if others:
            raise InvalidInputError(
                f"This block holds {len(others) + 1} solves; read the trace of one of them, as in "
                "`[solve.trace for solve in seen.solves]`."
            )
        return solve.trace

    def sees(self, adapter: Adapter) -> bool:
        """Whether a solve that begins here and now is this observation's to see; raises where it would escape."""
        scope = adapter.scope()
        if self._scopes.get(adapter.name, scope) == scope:
            return True
        if self.weighted or self.trace_wanted:
            raise EscapedTraceError(
                "A solve is being transformed (jit, vmap, grad, scan) inside the block that observes it, so its "
                "values would outlive their trace; open the block inside the transformed function, and return "
                "what you need from there."
            )
        return False

    def _totals(self) -> dict[StepTerm, Array]:
        if not self.weighted:
            raise NothingObservedError("No term was asked for; give one, as in `observe(100 * LocalError())`.")
        valued = [solve.values for solve in self._seen()]
        if len({array_namespace(next(iter(values.values()))) for values in valued}) > 1:
            names = sorted({solve.adapter.name for solve in self.solves})
            raise MixedFrameworksError(
                f"This block holds solves of {', '.join(names)}, whose values cannot be added; "
                "observe each framework in a block of its own."
            )
        totals = {}
        for _, term in self.weighted:
            totals[term] = total(values[term] for values in valued)
        return totals

    def _seen(self) -> tuple[Solve, ...]:
        if not self.solves:
            known = ", ".join(sorted(attached())) or "none"
            raise NothingObservedError(
                "No solve was seen in this block. Either nothing was solved, or the solve runs in a function "
                "that `jax.jit` compiled before the block began (open the block inside that function), or its "
                f"library has no adapter or was first imported inside the block (attached: {known})."
            )
        return self.solves
