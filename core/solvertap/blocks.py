"""The blocks in which solves are observed, and the door through which adapters open one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from .adapter import Adapter
from .attachment import attach
from .errors import CheckpointError, InvalidInputError, NoEstimateError
from .observation import Observation
from .offered import Offered
from .phases import NOBODY, NOTHING, UNSEEN, Asked, Scope, current, entered, scope
from .plugins import plugins
from .regularization import regularizing
from .samples import Unkeyed
from .solve import Solve
from .state import State
from .terms import Term

P = ParamSpec("P")
R = TypeVar("R")


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
        checkpoint: keep of each step its states alone, and evaluate the field once more in the backward pass, step
            by step: the memory of a solve then grows with its steps times the size of the state, whatever the field
            is. Solution and penalty are bitwise the same, the gradient is the same to rounding. diffrax does so
            anyway.
        key: what `LocalSample` draws its times by. In JAX a key of `jax.random`, which it needs; in torch a
            `torch.Generator`, by default torch's own. Or a function of n that returns the n-th number in [0, 1); see
            `Draws`.

    Raises:
        InvalidInputError: `term` is no term.
    """

    def __init__(
        self,
        term: Term | None = None,
        *,
        trace: bool = False,
        align: bool = False,
        checkpoint: bool = False,
        key: Any = None,
    ) -> None:
        if term is not None and not isinstance(term, Term):
            raise InvalidInputError(
                f"`observe` was given {term!r}, which is no term; give one, as in `observe(100 * LocalError())`."
            )
        self._settings = (term, trace, align, checkpoint, key)
        self._open: list[Observation] = []

    def __enter__(self) -> Observation:
        attach()
        here = current()
        observation = Observation(*self._settings, phase=here.phase)
        self._open.append(observation)
        scope.set(Scope((*here.observers, observation), here.phase))
        return observation

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # By looking for it, not with a token: threads may share this object, and a generator may end elsewhere.
        here = current()
        mine = [observer for observer in here.observers if observer in self._open][-1:]
        if mine:
            self._open.remove(mine[0])
            rest = tuple(observer for observer in here.observers if observer is not mine[0])
            scope.set(Scope(rest, here.phase))


class unobserved:
    """A block whose solves nobody sees, `regularize` included.

    Adapters open it while a field is evaluated: a solve that a field makes is part of the field. To observe such
    a solve, open an observation inside the field.
    """

    def __enter__(self) -> None:
        self._token = scope.set(UNSEEN)

    def __exit__(self, *_: object) -> None:
        scope.reset(self._token)


def tapped(
    function: Callable[P, R],
    term: Term | None = None,
    *,
    trace: bool = False,
    align: bool = False,
    checkpoint: bool = False,
    key: Any = None,
) -> Callable[P, tuple[R, Observation]]:
    """The function, returning its result together with the `Observation` of the solves it made.

    Args:
        function: a solve function such as `diffrax.diffeqsolve`, or any function that solves inside.
        term, trace, align, checkpoint, key: as for `observe`.
    """

    @wraps(function)
    def observed(*args: P.args, **kwargs: P.kwargs) -> tuple[R, Observation]:
        with observe(term, trace=trace, align=align, checkpoint=checkpoint, key=key) as seen:
            result = function(*args, **kwargs)
        return result, seen

    return observed


def later(phase: str) -> Callable[[], AbstractContextManager[None]]:
    """A block for what a framework solves once more in its backward pass, counted as a phase of its own.

    An adapter makes it in the forward pass and enters it in the backward pass, where the block that observes may
    be closed and another thread at work. A recomputation repeats what the forward pass was asked for, operation
    by operation, because the framework compares the two; its values are nobody's.

    Args:
        phase: "adjoint" or "recomputation".
    """
    here = current()
    asked = _asked(here, here.observers, traced=False) if phase == "recomputation" else NOTHING
    return entered(phase, asked, here.observers)


def open_solve(adapter: Adapter, like: State | None = None) -> Solve | None:
    """Begins a solve for whoever is observing; None if nobody is. Adapters call it once for each solve.

    An observation of statistics alone does not see a solve that is traced deeper than itself.

    Args:
        adapter: the adapter that calls.
        like: the initial state, where the solve is a Python loop that will call `Solve.step`.

    Raises:
        EscapedTraceError: a term or a trace is asked for, and the solve is traced deeper than its observation.
        CheckpointError: checkpoints are asked for, and the adapter has none.
        NoEstimateError: a `LocalSample` is asked for, and the adapter cannot take a step from anywhere.
        InvalidInputError: nothing to draw its time by.
    """
    here = current()
    regularizer = None if here.phase is UNSEEN.phase else regularizing()
    observers = tuple(observer for observer in here.observers if observer.sees(adapter))
    if regularizer is None and not observers and here.phase.asked == NOTHING:
        return None
    asked = _asked(here, observers, traced=not adapter.counts_are_numbers)
    if not adapter.injects:
        asked = asked.insisted()
    if asked.checkpoint and not adapter.checkpoints:
        raise CheckpointError(
            f"`observe(checkpoint=True)` was asked of {adapter.name!r}, whose adapter cannot take a step once more; "
            "leave it out, or set `Adapter.checkpoints` once the adapter honours `Solve.checkpoint`."
        )
    asked = _without_unsampled(adapter, asked)
    numbers = adapter.numbers(*_key(observers, asked)) if asked.samples else None
    solve = Solve(adapter, asked, here.phase, like, regularizer, numbers)
    for observer in observers:
        observer.opened.append(solve)
    plugins().notify("solvertap_solve_started", solve=solve)
    return solve


def _without_unsampled(adapter: Adapter, asked: Asked) -> Asked:
    if adapter.samples:
        return asked
    for term in asked.samples:
        refusal = NoEstimateError(
            f"`LocalSample` was asked of {adapter.name!r}, whose adapter cannot take a step from anywhere; leave it "
            "out, or set `Adapter.samples` once the adapter calls `Sampling.begin`."
        )
        if not isinstance(term, Offered):
            raise refusal
        term.by.left_out[str(refusal)] = None
    return asked._replace(terms=tuple(term for term in asked.terms if not term.sampled))


def _key(observers: tuple[Observation, ...], asked: Asked) -> tuple[Any, int]:
    """What a solve draws by, and the how-manieth it is to do so."""
    for observer in reversed(observers):
        if observer.key is not None:
            return observer.key, len(observer.opened)
    offered = [term for term in asked.samples if isinstance(term, Offered)]
    return (Unkeyed(offered[0].by.k) if len(offered) == len(asked.samples) else None), 0


def _asked(here: Scope, observers: tuple[Observation, ...], traced: bool) -> Asked:
    phase = here.phase
    regularizer = regularizing()
    # Of what began before this phase, the phase itself knows what it asks for.
    asked = phase.asked
    if regularizer is not None and phase is NOBODY.phase:
        asked = asked.united(Asked(regularizer.offered(traced)))
    for observer in observers:
        if observer.phase is phase:
            asked = asked.united(observer.asked)
    return asked
