"""A penalty for code that was not written for one: its gradient is added where a backward pass enters a solve."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from .attachment import attach
from .errors import InvalidInputError
from .forking import Lock
from .language import ParsedTerm, parse_term
from .offered import Offered, Record
from .plugins import plugins
from .statistics import Stats
from .terms import StepTerm, Term


class regularize:
    """Adds the gradient of a penalty to every backward pass through a solve, of code that knows nothing of it.

        with tap.regularize("100:10:2000*local_error"):
            train()

    The solution passes through an identity whose backward pass injects weight times the gradient of each term. So
    the loss, and whatever the code prints or saves, stays its own, while its optimiser minimizes the loss plus the
    penalty. A solve in which a term would carry no gradient (`torch.no_grad`, fixed steps, a continuous adjoint) goes
    without it, and `left_out` says why; a `LocalSample` has one under an adjoint. A weight of zero leaves a solve as it
    is.

    In torch the scale of a `GradScaler` multiplies the penalty as it does the loss. In JAX a solve that is mapped
    (`vmap`) over a batch adds the mean over the batch. Each backward pass injects anew: where a loss is
    differentiated twice, so is the penalty.

    It holds for all threads of the process, as a block, or from `start()` to `stop()`. Frameworks may be imported
    before or after. A solve that `unobserved()` hides, as one inside a field, is left alone.

    Args:
        term: what to add: a term; a text that `parse_term` reads; a function that gives the weighted terms at
            optimiser step k, the terms themselves always the same; or None to count only. k counts the steps of
            torch's optimisers, of the one that made most, or the backward passes of JAX, those of one training step
            together.
        listener: called with a `Record` of every solve, in JAX from the host callbacks of the compiled program.

    Attributes:
        k: the optimiser steps so far.
        stats: the counts by kind.
        left_out: why terms were left out of solves, each reason once.

    Raises:
        InvalidInputError, UnknownNameError: `term` is none of these, or its text cannot be read.
    """

    def __init__(
        self,
        term: Term | str | Callable[[int], Term] | None = None,
        *,
        listener: Callable[[Record], None] | None = None,
    ) -> None:
        self._weighted, self._constant = _schedule(term)
        self._listener = listener
        self._pairs = self._weighted(0)
        self._lock = Lock()
        self._optimisers: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self._sites: set[int] = set()
        self.k = 0
        self.stats: dict[str, Stats] = {}
        self.left_out: dict[str, None] = {}
        self._begun = False  # last: what could not be made needs no start

    def __del__(self) -> None:
        if not getattr(self, "_begun", True):
            warnings.warn(
                "A `regularize` was made and never started, so that nothing was regularized; write `with "
                "regularize(...):`, or call its `start()`.",
                RuntimeWarning,
                stacklevel=2,
            )

    def start(self) -> regularize:
        """Begins; returns itself.

        Raises:
            InvalidInputError: another one is at work.
        """
        global _active
        self._begun = True
        if _active is not None:
            raise InvalidInputError("A `regularize` is at work already; stop it first, or give it a sum of terms.")
        try:
            _active = self
            _attach_when_imported()
            attach()
        except BaseException:  # a warning that is an error, an interrupt: it begins whole or not at all
            _active = None
            raise
        return self

    def stop(self) -> None:
        """Ends. What torch has solved before keeps its gradient; what JAX has compiled adds zero from now on."""
        global _active
        if self.at_work:
            _active = None

    @property
    def at_work(self) -> bool:
        """Whether it has been started, and not stopped."""
        return _active is self

    __enter__ = start  # itself: an interrupt may come where it would return to another function

    def __exit__(self, *_: object) -> None:
        global _active
        if _active is self:  # written out: an interrupt may come wherever a function is entered
            _active = None

    def offered(self, traced: bool) -> tuple[Offered, ...]:
        """The terms for a solve that begins now; one whose weight is zero, and stays so for this solve, is left out.

        Args:
            traced: whether the solve is compiled, and may run again at a later step.
        """
        pairs = self._weighted(self.k)
        if [term for _, term in pairs] != [term for _, term in self._pairs]:
            raise InvalidInputError("The function given to `regularize` named other terms at another step.")
        return tuple(
            Offered(name=term.name, weigh_by_step=term.weigh_by_step, reduce=term.reduce, term=term, by=self)
            for weight, term in pairs
            if (traced and not self._constant) or not (isinstance(weight, int | float) and weight == 0)
        )

    def weights(self, terms: Sequence[Offered]) -> list[Any]:
        """The weights of offered terms now."""
        pairs = self._weighted(self.k)
        return [sum(weight for weight, each in pairs if each == offered.term) for offered in terms]

    def record(self, record: Record) -> None:
        """Takes one solve into account."""
        with self._lock():
            self.stats[record.kind] = self.stats.get(record.kind, Stats()) + record.stats
        if self._listener is not None:
            self._listener(record)

    def optimiser_stepped(self, optimiser: Any) -> None:
        """Says that an optimiser made a step."""
        with self._lock():
            self._optimisers[optimiser] = self._optimisers.get(optimiser, 0) + 1
            self.k = max(self.k, self._optimisers[optimiser])

    def passed_backward(self, site: int) -> None:
        """Says that a compiled program went back through a solve; k is counted where the same one comes again."""
        with self._lock():
            if site in self._sites:
                self.k += 1
                self._sites.clear()
            self._sites.add(site)


_active: regularize | None = None
_awaited: set[str] = set()


def regularizing() -> regularize | None:
    """The one that is at work."""
    return _active


def _schedule(term: Any) -> tuple[Callable[[int], tuple[tuple[Any, StepTerm], ...]], bool]:
    """The weighted terms at a step, and whether they are always the same."""
    if term is None or isinstance(term, Term):
        pairs = () if term is None else term.pairs()
        return lambda _: pairs, True
    function = parse_term(term) if isinstance(term, str) else term
    if not callable(function):
        raise InvalidInputError(
            f'`regularize` was given {term!r}; give a term, a text such as "100*local_error", or a function of the '
            "optimiser step that returns a term."
        )

    def pairs_at(k: int) -> tuple[tuple[Any, StepTerm], ...]:
        weighted = function(k)
        if not isinstance(weighted, Term):
            raise InvalidInputError(f"The function given to `regularize` returned {weighted!r}, which is no term.")
        return weighted.pairs()

    return pairs_at, isinstance(function, ParsedTerm) and not function.annealed


def _attach_when_imported() -> None:
    """Has the adapters attached to what is imported from now on."""
    awaited = {adapter.module for adapter in plugins().adapters.values()} - sys.modules.keys() - _awaited
    if awaited:
        from wrapt import register_post_import_hook

        for module in awaited:
            register_post_import_hook(lambda _: attach() if _active is not None else None, module)
        _awaited.update(awaited)
