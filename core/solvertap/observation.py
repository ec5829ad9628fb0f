"""`observe` and `tapped`: opening an observation, and what it has seen."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from functools import wraps
from types import TracebackType
from typing import ParamSpec, TypeVar

from array_api_compat import array_namespace

from .adapter import Adapter
from .attachment import attach, attached
from .errors import EscapedTraceError, InvalidInputError, MixedFrameworksError, NothingObservedError
from .plugins import plugins
from .solve import Solve
from .statistics import Stats
from .step import Array, State
from .terms import StepTerm, Term, combine, total
from .trace import Trace

P = ParamSpec("P")
R = TypeVar("R")

_active: ContextVar[tuple[Observation, ...]] = ContextVar("solvertap_observations", default=())


class Observation:
    """What was seen of the solves inside one `observe` block.

    Values may be read inside the block as soon as a solve has returned, and after it.
    """

    def __init__(self, term: Term | None, trace: bool, align: bool) -> None:
        self._weighted = term.pairs() if term is not None else ()
        self._trace_wanted = trace
        self._align = align
        self._solves: list[Solve] = []
        adapters = plugins().adapters
        self._scopes = {name: adapters[name].scope() for name in attached()}

    @property
    def solves(self) -> tuple[Solve, ...]:
        """The observed solves, in the order in which they began; those that failed are left out."""
        return tuple(solve for solve in self._solves if not solve.abandoned)

    @property
    def penalty(self) -> Array:
        """The weighted sum of the terms over all solves: a real scalar of the solves' own framework.

        It carries gradient to whatever the states of the accepted steps depend on; times and step sizes are
        constants.

        Raises:
            NothingObservedError: no solve was seen, or no term was asked for.
            MixedFrameworksError: the solves belong to two frameworks.
        """
        return combine(self._weighted, self._totals())

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
        if not self._trace_wanted:
            raise InvalidInputError("No trace was kept; ask for it with `observe(..., trace=True)`.")
        solve, *others = self._seen()
        if others:
            raise InvalidInputError(
                f"This block holds {len(others) + 1} solves; read the trace of one of them, as in "
                "`[solve.trace for solve in seen.solves]`."
            )
        return solve.trace

    def _sees(self, adapter: Adapter) -> bool:
        scope = adapter.scope()
        if self._scopes.get(adapter.name, scope) == scope:
            return True
        if self._weighted or self._trace_wanted:
            raise EscapedTraceError(
                "A solve is being transformed (jit, vmap, grad, scan) inside the block that observes it, so its "
                "values would outlive their trace; open the block inside the transformed function, and return "
                "what you need from there."
            )
        return False

    def _totals(self) -> dict[StepTerm, Array]:
        if not self._weighted:
            raise NothingObservedError("No term was asked for; give one, as in `observe(100 * LocalError())`.")
        valued = [solve.values for solve in self._seen()]
        if len({array_namespace(next(iter(values.values()))) for values in valued}) > 1:
            names = sorted({solve.adapter.name for solve in self.solves})
            raise MixedFrameworksError(
                f"This block holds solves of {', '.join(names)}, whose values cannot be added; "
                "observe each framework in a block of its own."
            )
        totals = {}
        for _, term in self._weighted:
            totals[term] = total(values[term] for values in valued)
        return totals

    def _seen(self) -> tuple[Solve, ...]:
        if not self.solves:
            known = ", ".join(sorted(attached())) or "none"
            raise NothingObservedError(
                "No solve was seen in this block. Either nothing was solved, or the solve runs in a function "
                "that `jax.jit` compiled before the block began (open the block inside that function), or its "
                f"library has no adapter (attached: {known})."
            )
        return self.solves


class observe:
    """A block in which every solve is observed: `with observe(term) as seen: ...`.

    Blocks nest, each seeing every solve inside it, and belong to the thread or task that opened them. In JAX
    the block stands inside the function that is transformed.

    Args:
        term: what to penalize; None for statistics only, which work under every solver and adjoint.
        trace: keep one row for every attempted step. In JAX the rows are as many as `max_steps`.
        align: make every framework take the reference steps, so that one problem visits the same steps
            everywhere: Hairer's initial step where the call gives none, and the last step landing on the last
            time. By default the solve is bitwise the one it would have been.

    Raises:
        InvalidInputError: `term` is no term.
    """

    def __init__(self, term: Term | None = None, *, trace: bool = False, align: bool = False) -> None:
        if term is not None and not isinstance(term, Term):
            raise InvalidInputError(
                f"`observe` was given {term!r}, which is no term; give one, as in `observe(100 * LocalError())`."
            )
        self._settings = (term, trace, align)
        self._tokens: list[Token[tuple[Observation, ...]]] = []

    def __enter__(self) -> Observation:
        attach()
        observation = Observation(*self._settings)
        self._tokens.append(_active.set((*_active.get(), observation)))
        return observation

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _active.reset(self._tokens.pop())


class unobserved:
    """A block whose solves nobody sees.

    Adapters open it while a field is evaluated: a solve that a field makes is part of the field. To observe such
    a solve, open an observation inside the field.
    """

    def __enter__(self) -> None:
        self._token = _active.set(())

    def __exit__(self, *_: object) -> None:
        _active.reset(self._token)


def tapped(
    function: Callable[P, R], term: Term | None = None, *, trace: bool = False, align: bool = False
) -> Callable[P, tuple[R, Observation]]:
    """The function, returning its result together with the `Observation` of the solves it made.

    Args:
        function: a solve function such as `diffrax.diffeqsolve`, or any function that solves inside.
        term, trace, align: as for `observe`.
    """
    block = observe(term, trace=trace, align=align)
    term, trace, align = block._settings

    @wraps(function)
    def observed(*args: P.args, **kwargs: P.kwargs) -> tuple[R, Observation]:
        with observe(term, trace=trace, align=align) as seen:
            result = function(*args, **kwargs)
        return result, seen

    return observed


def open_solve(adapter: Adapter, like: State | None = None) -> Solve | None:
    """Begins a solve for whoever is observing; None if nobody is. Adapters call it once for each solve.

    An observation of statistics alone does not see a solve that is traced deeper than itself.

    Args:
        adapter: the adapter that calls.
        like: the initial state, where the solve is a Python loop that will call `Solve.step`.

    Raises:
        EscapedTraceError: a term or a trace is asked for, and the solve is traced deeper than its observation.
    """
    if not _active.get():
        return None
    observers = tuple(observer for observer in _active.get() if observer._sees(adapter))
    if not observers:
        return None
    terms = {term: None for observer in observers for _, term in observer._weighted}
    solve = Solve(
        adapter,
        tuple(terms),
        any(observer._trace_wanted for observer in observers),
        any(observer._align for observer in observers),
        like,
    )
    for observer in observers:
        observer._solves.append(solve)
    plugins().notify("solvertap_solve_started", solve=solve)
    return solve
