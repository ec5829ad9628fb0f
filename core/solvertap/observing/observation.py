"""What was seen of the solves of one block."""

from __future__ import annotations

import operator
from functools import reduce
from typing import Any

from ..errors import EscapedTraceError, NothingObservedError
from ..explaining.places import Explanation
from ..plugins.attachment import attached
from ..plugins.registry import plugins
from ..solves.framework import Framework
from ..solves.request import FORWARD_NAME, Phase, Request
from ..solves.solve import Solve
from ..solves.stats import Stats
from ..solves.trace import Trace
from ..steps.arrays import Array
from ..terms.sums import combine, total
from ..terms.term import NamedTerm, Term
from .adding import refuse_batches, refuse_foreign, refuse_mixed, refuse_outlived, refuse_unobserved
from .nothing import why_nothing
from .tracing import explanations_of, refuse_untraced, trace_of


class Observation:
    """What was seen of the solves inside one `observe` block.

    Values may be read inside the block as soon as a solve has returned, and after it.

    Attributes:
        weighted: the (weight, term) pairs that are penalized.
        key: as given to `observe`.
        phase: the one in which it was opened; only its solves are this observation's own.
        request: what it requests of the solves of its phase.
        opened: every solve that began, of every phase, those that failed included.
    """

    def __init__(self, term: Term | None, request: Request, key: Any, phase: Phase) -> None:
        self.weighted: tuple[tuple[Any, NamedTerm], ...] = term.pairs() if term is not None else ()
        self.key = key
        self.phase = phase
        self.request: Request = request._replace(terms=tuple(dict.fromkeys([term for _, term in self.weighted])))
        self.opened: list[Solve] = []
        adapters = plugins().adapters
        self._contexts = {name: adapters[name].trace_context() for name in attached()}

    @property
    def solves(self) -> tuple[Solve, ...]:
        """The observed solves, in the order in which they began; those that failed are left out."""
        return tuple(solve for solve in self.opened if solve.phase is self.phase and not solve.abandoned)

    @property
    def failed(self) -> tuple[Solve, ...]:
        """The solves that raised, in the order in which they began; each has its trace, where one was requested."""
        return tuple(solve for solve in self.opened if solve.phase is self.phase and solve.abandoned)

    @property
    def penalty(self) -> Array:
        """The weighted sum of the terms over all solves, `Float[Array, ""]` of the solves' own framework.

        Of a batch whose samples take steps of their own (torchode) it has the mean over the samples, which goes with a
        loss that is a mean; for a loss that is a sum, multiply it by the size of the batch.

        It carries gradient to whatever the states of the accepted steps depend on; times and step sizes are
        constants.

        Raises:
            NothingObservedError: no solve was seen, or no term was given.
            MixedFrameworksError: the solves, or a weight and the solves, belong to two frameworks.
            EscapedTraceError: the solves were traced in a transformation that has ended.
        """
        return self._sum(self.weighted)

    def value_of(self, term: Term) -> Array:
        """A weighted sum of terms that are observed here, `Float[Array, ""]` as `penalty` is, with weights of its own.

        Raises:
            InvalidInputError: it holds a term that this block does not observe.
            NothingObservedError, MixedFrameworksError, EscapedTraceError: as for `penalty`.
        """
        refuse_unobserved(term, self.weighted)
        return self._sum(term.pairs())

    @property
    def values(self) -> dict[str, Array]:
        """The value of each term by name, unweighted, added over all solves: each `Float[Array, ""]`.

        Of a batch whose samples take steps of their own one entry for each sample, `Float[Array, "batch"]`.

        Raises:
            NothingObservedError, MixedFrameworksError, EscapedTraceError: as for `penalty`.
            InvalidInputError: the solves are of different batches.
        """
        return {term.name: total for term, total in self._totals().items()}

    @property
    def stats(self) -> Stats:
        """The counts over all solves of the forward pass; zeros where none was seen.

        Of a batch whose samples take steps of their own one entry for each sample, `Int[Array, "batch"]`.

        Raises:
            EscapedTraceError: the solves were traced in a transformation that has ended.
            InvalidInputError: the solves are of different batches.
        """
        refuse_batches(self.solves)
        counted = [solve.stats for solve in self._alive()]
        return reduce(operator.add, counted) if counted else Stats()

    @property
    def phases(self) -> dict[str, Stats]:
        """The counts of each phase: "forward", which is `stats`, "adjoint" and "recomputation".

        "adjoint" are the solves backwards in time of a continuous adjoint, "recomputation" what
        `observe(checkpoint=True)` and `torch.utils.checkpoint` compute again, as far as they get. Both fill up
        while torch runs its backward pass, also when the block has been closed by then. The backward pass of a JAX
        transformation is out of reach: what runs there is not counted.
        """
        counts = {FORWARD_NAME: self.stats, "adjoint": Stats(), "recomputation": Stats()}
        for solve in self.opened:
            counts["recomputation"] += solve.recomputed.as_recomputed
        others = [solve for solve in self.opened if solve.phase is not self.phase]
        for name in tuple(counts):
            solves = [solve for solve in others if solve.phase.name == name]
            refuse_batches(solves)
            counts[name] = reduce(operator.add, [solve.stats for solve in solves], counts[name])
        return counts

    @property
    def trace(self) -> Trace:
        """The trace of the one solve of this block; where there are several, each of `solves` has its own.

        Where the only solve failed, it is that one's, as far as it got.

        Raises:
            InvalidInputError: no trace was requested, or there are several.
            NothingObservedError: no solve was seen, or the only one failed without a step to show.
        """
        refuse_untraced(self.request.trace)
        return trace_of(self.solves or self.failed or self._seen())

    def explain(self) -> list[Explanation]:
        """What limits the steps of the solves of this block, those that failed included, by the place that solves.

        Raises:
            InvalidInputError: no trace was requested.
            EscapedTraceError: the solves were traced in a transformation.
        """
        refuse_untraced(self.request.trace)
        self._alive()
        return explanations_of(self.opened)

    def sees(self, framework: Framework) -> bool:
        """Whether a solve that begins here and now is this observation's to see; raises where it would escape."""
        context = framework.trace_context()
        if self._contexts.get(framework.name, context) == context:
            return True
        if self.weighted or self.request.trace:
            raise EscapedTraceError(
                "A solve is being transformed (jit, vmap, grad, scan) inside the block that observes it, so its "
                "values would outlive their trace. Open the block inside the transformed function, and return what "
                "you need from there."
            )
        return framework.counts_are_numbers

    def _sum(self, weighted: tuple[tuple[Any, NamedTerm], ...]) -> Array:
        totals = self._totals(penalized=True)
        for weight, term in weighted:
            refuse_foreign(weight, totals[term], term)
        return combine(weighted, totals)

    def _totals(self, penalized: bool = False) -> dict[NamedTerm, Array]:
        """The value of each term over all solves; where it is penalized, the mean over the samples of a batch."""
        if not self.weighted:
            raise NothingObservedError("No term was asked for; give one, as in `observe(0.1 * LocalError())`.")
        solves = self._alive() or self._seen()
        if not penalized:
            refuse_batches(solves)
        valued = [solve.over_samples("mean") if penalized else solve.values for solve in solves]
        refuse_mixed(solves, valued)
        totals = {}
        for _, term in self.weighted:
            totals[term] = total(values[term] for values in valued)
        return totals

    def _seen(self) -> tuple[Solve, ...]:
        if not self.solves:
            raise NothingObservedError(why_nothing(len(self.failed)))
        return self.solves

    def _alive(self) -> tuple[Solve, ...]:
        solves = self.solves
        refuse_outlived(solves)
        return solves
