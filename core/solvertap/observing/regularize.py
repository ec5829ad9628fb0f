"""A penalty for code that was not written for one: the backward pass that trains carries its gradient."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, get_args

from ..errors import InvalidInputError
from ..plugins.attachment import attach
from ..solves.injection import Batch, Passes, Record
from ..solves.left_out import LeftOut, Refusals
from ..solves.optional_term import optional, plain
from ..solves.stats import Stats
from ..terms.term import NamedTerm, Term
from .awaiting import attach_when_imported
from .budget import budget
from .listening import Guarded
from .schedule import scheduled
from .steering import Steered, Steering
from .unadapted import warn_of_unadapted


class regularize(Steered):
    """Adds the gradient of a penalty to the backward pass that trains, in code that knows nothing of it.

        with tap.regularize("1:0.1:2000*local_error"):
            train()

    The solution passes through an identity whose backward pass injects weight times the gradient of each term. So
    the loss, and whatever the code prints or saves, stays its own, while its optimiser minimizes the loss plus the
    penalty. A solve in which a term would carry no gradient (`torch.no_grad`, fixed steps, a continuous adjoint) goes
    without it, and `left_out` says why; a `LocalSample` has one under an adjoint. A weight of zero leaves a solve as it
    is.

    Only the pass that trains carries the penalty of a solve, once. In torch a pass trains where it builds no graph and
    accumulates (`backward`) into a tensor that the penalty depends on and an optimiser holds; where the penalty depends
    on it by the initial state alone, it must be a `Parameter`, for it may be an input. In JAX a pass trains unless one
    of three is known: its result is differentiated again, its cotangent is mapped, or the solve is differentiated by
    its initial state alone. What else is differentiated (a gradient in a loss, a Jacobian, a saliency
    map) keeps its own numbers. In torch the scale of a `GradScaler` multiplies the penalty as it does the loss.

    It holds for all threads of the process, as a block, or from `start()` to `stop()`. Frameworks may be imported
    before or after. A solve that `unobserved()` hides, as one inside a field, is left alone.

    Args:
        term: what to add: a term; a text that `parse_term` reads; a `budget`, whose weight finds itself; a function
            that gives the weighted terms at optimiser step k, the terms themselves always the same; or None to count
            only. k counts the steps of torch's optimisers, of the one that made most, or the backward passes of JAX,
            those of one training step together.
        passes: "training", or "all": every backward pass carries the penalty, each time, whatever it is for. That is
            for training that cannot be recognized: by `torch.autograd.grad` or `torch.func.grad`, or without a
            `torch.optim` optimiser.
        optimiser: the one optimiser of torch whose passes train; None for any.
        batch: what a solve that JAX maps (`vmap`) over a batch adds: the "mean" over the batch, which goes with a loss
            that is a mean, or the "sum", for models of their own whose losses are added.
        listener: called with a `Record` of every solve, in JAX from the host callbacks of the compiled program. One
            that raises is reported in a warning, and not called again.

    Attributes:
        k: the optimiser steps so far.
        backward_passes: how many there were through a solve with a penalty, by whether they "carried" it or were "left"
            alone. Those that JAX leaves alone are not counted.
        stats: the counts by kind.
        left_out: why terms were left out of solves, and of how many: a mapping from reasons to numbers of solves.
        failed: how many solves raised; they are in no other count.

    Raises:
        InvalidInputError, UnknownNameError: `term` is none of these, or its text cannot be read; `passes` or `batch` is
            none of its choices.
    """

    def __init__(
        self,
        term: Term | str | budget | Callable[[int], Term] | None = None,
        *,
        passes: Passes = "training",
        optimiser: Any = None,
        batch: Batch = "mean",
        listener: Callable[[Record], None] | None = None,
    ) -> None:
        for name, value, choices in (("passes", passes, get_args(Passes)), ("batch", batch, get_args(Batch))):
            if value not in choices:
                raise InvalidInputError(f"`{name}` is {value!r}; the choices are: {', '.join(map(repr, choices))}.")
        super().__init__()
        self._steering = Steering(term) if isinstance(term, budget) else None
        self._weighted, self._constant = scheduled(term) if self._steering is None else (self._steering.pairs, False)
        self.passes: Passes = passes
        self.optimiser = optimiser
        self.batch: Batch = batch
        self._listener = None if listener is None else Guarded(listener)
        self._pairs = self._weighted(0)
        self.stats: dict[str, Stats] = {}
        self.left_out: LeftOut = LeftOut()
        self.failed = 0
        self._begun = False  # last: what could not be made needs no start

    def __del__(self) -> None:
        if not getattr(self, "_begun", True):
            warnings.warn(
                "A `regularize` was made and never started, so that nothing was regularized. Write `with "
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
            attach_when_imported(while_=regularizing)
            attach()
        except BaseException:  # a warning that is an error, an interrupt: it begins whole or not at all
            _active = None
            raise
        return self

    def stop(self) -> None:
        """Ends. What torch has solved before keeps its gradient; what JAX has compiled adds zero from now on."""
        self.__exit__()

    @property
    def at_work(self) -> bool:
        """Whether it has been started, and not stopped."""
        return _active is self

    __enter__ = start  # itself: an interrupt may come where it would return to another function

    def __exit__(self, *_: object) -> None:
        global _active
        if _active is self:  # written out: an interrupt may come wherever a function is entered
            _active = None
            if not self.stats and not self.failed:
                warn_of_unadapted()

    def optional_terms(self, traced: bool) -> tuple[NamedTerm, ...]:
        """The terms for a solve that begins now; one whose weight is zero, and stays so for this solve, is left out.

        Args:
            traced: whether the solve is compiled, and may run again at a later step.
        """
        pairs = self._weighted(self.k)
        if [term for _, term in pairs] != [term for _, term in self._pairs]:
            raise InvalidInputError(
                "The function given to `regularize` named other terms at another step. Let it return the same "
                "terms each time, and change their weights alone."
            )
        wanted = [
            term
            for weight, term in pairs
            if (traced and not self._constant) or not (isinstance(weight, int | float) and weight == 0)
        ]
        # Each once: `weights` gives a term that is named twice the sum of its weights.
        return tuple(optional(term, Refusals(self.left_out)) for term in dict.fromkeys(wanted))

    def weights(self, terms: Sequence[NamedTerm]) -> list[Any]:
        """The weights of its optional terms now."""
        pairs = self._weighted(self.k)
        return [sum(weight for weight, each in pairs if each == own) for own in map(plain, terms)]

    def record(self, record: Record) -> None:
        """Takes one solve into account."""
        if self._steering is not None and record.kind == "training":
            self._steering.saw(record)
        with self._lock():
            self.stats[record.kind] = self.stats.get(record.kind, Stats()) + record.stats
            self.left_out.count(record.left_out, record.stats.solves)
        if self._listener is not None:
            self._listener(record)


_active: regularize | None = None


def regularizing() -> regularize | None:
    """The one that is at work."""
    return _active
