"""The blocks in which solves are observed."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from ..errors import InvalidInputError, NotEnteredError
from ..plugins.attachment import attach
from ..solves.request import Request
from ..solves.scope import NOBODY, UNSEEN, Observer, Scope, current, scope
from ..terms.step_term import replayed
from ..terms.term import Term
from .asking import asked_by
from .observation import Observation

By = Literal["sample", "part"]
P = ParamSpec("P")
R = TypeVar("R")

_SEEN = frozenset({*dir(Observation), "weighted", "opened"})


class observe:
    """A block in which every solve is observed: `with observe(term) as seen: ...`.

    Blocks nest, each seeing every solve inside it, and belong to the thread or task that opened them. In JAX
    the block stands inside the function that is transformed.

    Args:
        term: what to penalize; None for statistics only, which work under every solver and adjoint.
        trace: keep one row for every attempted step. In JAX the rows are as many as `max_steps`; a number of rows in
            the place of True is for a solve with `max_steps=None`, or saves memory: attempts beyond it have no row.
        align: make every framework take the reference steps, so that one problem visits the same steps
            everywhere: Hairer's initial step where the call gives none, and the last step landing on the last
            time. By default the solve is bitwise the one it would have been.
        checkpoint: keep only the states of each step, and evaluate the field again in the backward pass, step by
            step: the memory of a solve then grows with its steps times the size of the state, whatever the field
            is. Solution and penalty are bitwise the same, the gradient is the same to rounding. diffrax does so
            anyway.
        key: what `LocalSample` draws its times by. In JAX a key of `jax.random`, which it needs; in torch a
            `torch.Generator`, by default torch's own. Or a function of n that returns the n-th number in [0, 1); see
            `RandomSource`.
        replay: where the steps of a solve carry no gradient, as under a continuous adjoint (`odeint_adjoint`,
            `sdeint_adjoint`, `BacksolveAdjoint`), the accepted ones are taken once more with gradient when it is over,
            and the terms are measured there. It costs one more forward and backward pass over them, and the memory of
            their states. The solution, and its own gradient by the adjoint, stay bitwise the same. Where steps carry
            gradient, and for `LocalSample`, this changes nothing.
        by: with a trace, keep for every attempted step whose error it is: of each "sample", along the first axis of the
            state, or of each "part", the arrays of a tuple or pytree, or the components of a single array along its
            last axis; or of both, ("sample", "part"). See `Trace.shares` and `Trace.worst`.

    Raises:
        InvalidInputError: `term` is no term, `trace` no number of rows, or `by` another word or without a trace.
    """

    def __init__(
        self,
        term: Term | None = None,
        *,
        trace: bool | int = False,
        align: bool = False,
        checkpoint: bool = False,
        key: Any = None,
        replay: bool = False,
        by: By | tuple[By, ...] | None = None,
    ) -> None:
        if term is not None and not isinstance(term, Term):
            raise InvalidInputError(
                f"`observe` was given {term!r}, which is no term; give one, as in `observe(0.1 * LocalError())`."
            )
        if not isinstance(trace, int) or trace < 0:
            raise InvalidInputError(f"`trace` is {trace!r}; it is True, False, or how many rows there may be.")
        if replay and term is not None:
            term = replayed(term)
        request = Request(trace=trace, align=align, checkpoint=checkpoint, by=() if by is None else asked_by(by, trace))
        self._settings = (term, request, key)
        self._open: dict[Observer, Token[Scope]] = {}

    def __enter__(self) -> Observation:
        attach()
        here = current()
        observation = Observation(*self._settings, phase=here.phase)
        try:
            self._open[observation] = scope.set(here._replace(observers=(*here.observers, observation)))
        except BaseException:  # an interrupt behind `set`; see `within`
            scope.set(here)
            raise
        return observation

    if not TYPE_CHECKING:  # it knows what there is, and says so itself

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_") or name not in _SEEN:
                raise AttributeError(f"`observe` has no attribute {name!r}.")
            raise NotEnteredError(
                f"`{name}` was asked of an `observe(...)` itself, which is a block. Open it, `with observe(...) as "
                f"seen:`, and ask for `seen.{name}`."
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            mine, after = self._left(kind)
        except BaseException as interrupt:
            scope.set(self._left(type(interrupt))[1])
            raise
        scope.set(after)
        if mine is not None:
            self._open.pop(mine, None)

    def _left(self, kind: type[BaseException] | None) -> tuple[Observer | None, Scope]:
        """The observation that ends, and the scope without it; nothing is changed yet."""
        # By looking for it, not with a token: threads may share this object, and a generator may end elsewhere.
        here = current()
        mine = next((observer for observer in reversed(here.observers) if observer in self._open), None)
        if kind is None or issubclass(kind, Exception | GeneratorExit):
            return mine, here._replace(observers=tuple(observer for observer in here.observers if observer is not mine))
        # An interrupt: blocks inside may not have ended, an `unobserved` among them. They end with this one.
        if mine is None and here.phase is UNSEEN.phase:
            mine = next(reversed(self._open), None)
        found = here if mine is None else self._open[mine].old_value
        return mine, NOBODY if found is Token.MISSING else found


def tapped(
    function: Callable[P, R],
    term: Term | None = None,
    *,
    trace: bool | int = False,
    align: bool = False,
    checkpoint: bool = False,
    key: Any = None,
    replay: bool = False,
    by: By | tuple[By, ...] | None = None,
) -> Callable[P, tuple[R, Observation]]:
    """The function, returning its result together with the `Observation` of the solves it made.

    Args:
        function: a solve function such as `diffrax.diffeqsolve`, or any function that solves inside.
        term, trace, align, checkpoint, key, replay, by: as for `observe`.
    """

    @wraps(function)
    def observed(*args: P.args, **kwargs: P.kwargs) -> tuple[R, Observation]:
        with observe(term, trace=trace, align=align, checkpoint=checkpoint, key=key, replay=replay, by=by) as seen:
            result = function(*args, **kwargs)
        return result, seen

    return observed
