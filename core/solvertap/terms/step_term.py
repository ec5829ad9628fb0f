"""A term that is a fold over the accepted steps: `start`, `update`, `value`."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

from array_api_compat import device

from ..errors import InvalidInputError
from ..steps.arrays import Array, array_namespace
from ..steps.gradient import Gradient
from ..steps.step import Step
from .term import NamedTerm, Term, WeightedTerms

Reduce = Literal["sum", "mean", "max"]


@dataclass(frozen=True, kw_only=True)
class StepTerm(NamedTerm):
    """A scalar measured on each accepted step, then reduced over the steps of a solve.

    Attributes:
        name: the key of `Observation.values`.
        weigh_by_step: whether each value is multiplied by |h| of its step.
        reduce: "sum", "mean" or "max" over the accepted steps. All three are 0 where no step was taken.
        replay: where the steps of a solve carry no gradient, as under a continuous adjoint, they are taken once more
            with gradient when it is over, and measured there. Where they carry gradient this changes nothing.
    """

    stacks: ClassVar[bool] = False
    """Whether `measure` takes several steps together (`Steps`), one value for each, whether it has a gradient or not.
    Of a term that does not, the samples of a batch are measured one by one, mapped by the framework."""

    name: str
    weigh_by_step: bool = False
    reduce: Reduce = "sum"
    replay: bool = False

    def __post_init__(self) -> None:
        for option, value, choices in (
            ("reduce", self.reduce, get_args(Reduce)),
            ("weigh_by_step", self.weigh_by_step, (True, False)),
            ("replay", self.replay, (True, False)),
        ):
            if value not in choices:
                raise InvalidInputError(f"`{option}` is {value!r}; the choices are: {', '.join(map(repr, choices))}.")

    @abstractmethod
    def measure(self, step: Step) -> Array:
        """The value of one step: a real scalar that carries gradient."""

    def known(self, step: Step) -> Array | None:  # noqa: ARG002  # by default nothing is
        """What `measure` would give, where the step has it already without gradient; else None."""
        return None

    def has_gradient(self, step: Step) -> bool:  # noqa: ARG002  # by default of no step
        """Whether `gradient` is written out for such a step; else the framework differentiates `measure` itself."""
        return False

    def rows(self, step: Step) -> tuple[tuple[float, ...], ...]:  # noqa: ARG002  # by default none
        """The rows by which `measure` and `gradient` contract the slopes, where there is a gradient.

        They may use nothing else of the stages: a framework may keep the contracted slopes instead of the slopes. An
        error that is a sum of slopes has the row `Tableau.e`.
        """
        return ()

    def gradient(self, step: Step, by: Array | float, value: Array) -> Gradient:
        """The derivative of `measure` by the arrays of the step, times `by`, a number or one for each step.

        `value` is what `measure` gave. It carries gradient, for those who differentiate twice.

        A term that has one measures, and differentiates, several steps together as well (`Steps`), and its
        derivative is zero where an attempt that may yet be rejected is not finite.
        """
        raise NotImplementedError(f"{type(self).__name__} leaves its derivative to the framework")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # With another formula than the one that they were written for, these are not its own either.
        if cls._overrides("measure", "has_gradient"):
            cls.has_gradient = StepTerm.has_gradient  # type: ignore[method-assign]  # instead of the inherited one
        if cls._overrides("measure", "known"):
            cls.known = StepTerm.known  # type: ignore[method-assign]  # likewise
        if cls._overrides("measure", "stacks"):
            cls.stacks = False
        if cls._overrides("start", "begin") or cls._overrides("update", "begin"):
            cls.begin = StepTerm._begin_as_folded  # type: ignore[method-assign]  # a fold of its own

    @classmethod
    def _overrides(cls, name: str, other: str) -> bool:
        """Whether one attribute is of a class, perhaps a mixin, that stands before the one that the other is of."""
        first, second = (next(k for k, each in enumerate(cls.__mro__) if x in vars(each)) for x in (name, other))
        return first < second

    def start(self, zero: Array) -> Array:
        """The fold before the first step, from a zero of the dtype and device of the solve."""
        return zero - float("inf") if self.reduce == "max" else zero

    def update(self, total: Array, value: Array, h: Array) -> Array:
        """The fold after one more accepted step of size h, on which `value` was measured.

        Each is a `Float[Array, ""]`, or of m steps `Float[Array, "m"]`. In a batch all have one more axis, the
        last; then a fold of your own is mapped.
        """
        value = self._reduced(value, h, total.dtype)
        return array_namespace(total).maximum(total, value) if self.reduce == "max" else total + value

    def begin(self, value: Array, h: Array) -> Array:
        """The fold after the first step, or the first ones: `update` of `start`, without the operation on a zero."""
        return self._reduced(value, h, h.dtype)

    def _begin_as_folded(self, value: Array, h: Array) -> Array:
        zero = array_namespace(h).zeros((), dtype=h.dtype, device=device(h))
        return self.update(self.start(zero), value, h)

    def _reduced(self, value: Array, h: Array, dtype: Any) -> Array:
        if self.weigh_by_step:
            value = value * h
        if not hasattr(value, "dtype"):
            return value
        xp = array_namespace(value)
        # A state of no dimensions is promoted by the tolerances, whose dtype is another.
        value = value if value.dtype == dtype else xp.astype(value, dtype)
        if value.ndim == 0:
            return value
        axis = 0 if value.ndim > 1 else None  # the samples of a batch stay
        return xp.max(value, axis=axis) if self.reduce == "max" else xp.sum(value, axis=axis)

    def value(self, total: Array, accepted: Array) -> Array:
        """What the fold amounts to after `accepted` steps."""
        if self.reduce == "sum":
            return total
        xp = array_namespace(total)
        accepted = xp.asarray(accepted, dtype=total.dtype, device=device(total))
        if self.reduce == "mean":
            return total / xp.maximum(accepted, xp.ones_like(accepted))
        return xp.where(accepted > 0, total, xp.zeros_like(total))


def replayed(term: Term) -> Term:
    """The term with the `replay` of every term in it that is measured on all steps."""
    return WeightedTerms(
        tuple((w, replace(each, replay=True) if isinstance(each, StepTerm) else each) for w, each in term.pairs())
    )
