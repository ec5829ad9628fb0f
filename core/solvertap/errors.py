"""What solvertap raises. Every class is a `SolvertapError` and the builtin it refines.

    SolvertapError
    ├── InvalidInputError (ValueError)          a value that has no meaning where it stands
    ├── UnknownNameError (LookupError)          a name nothing answers to
    │   └── UnknownKeyError (KeyError)          likewise, where a dictionary is asked
    ├── NotEnteredError (AttributeError)        what a block gives, asked of the block itself
    ├── MissingExtraError (ImportError)         an optional dependency that is not installed
    ├── PluginError (RuntimeError)              a plugin or an adapter that cannot be used
    │   └── StepError                           an adapter that handed over what does not fit
    ├── NothingObservedError (RuntimeError)     a value asked of a block in which nothing was solved
    ├── EscapedTraceError (RuntimeError)        a value used outside the transformation it belongs to
    ├── MixedFrameworksError (TypeError)        one sum over values of two frameworks
    ├── CheckpointError (RuntimeError)          `checkpoint=True` where it cannot be had
    ├── AlignError (RuntimeError)               `align=True` where the reference steps cannot be had
    └── PenaltyRefusedError (RuntimeError)      a term that would carry no gradient, refused at the door
        ├── ContinuousAdjointError              `odeint_adjoint`, `sdeint_adjoint`, `BacksolveAdjoint`, ...
        ├── GradientDisabledError               `torch.no_grad`, inference mode
        ├── FixedStepError                      steps that nothing adapts
        ├── NoEstimateError                     a solver without the estimate that the term measures
        └── NoToleranceError                    an error to be scaled by a tolerance nobody gave

An exception of the framework being observed is never caught, wrapped or changed.

It warns of one thing by a class of its own: `RoundingWarning` (RuntimeWarning), a measure that may be mostly rounding.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

_LONGEST = 60  # characters of a name that are said again


class SolvertapError(Exception):
    """The root of everything solvertap raises."""


class InvalidInputError(SolvertapError, ValueError):
    """A value that has no meaning where it stands; the message names it and the choices."""


class UnknownNameError(SolvertapError, LookupError):
    """A name that nothing answers to; the message lists the names there are."""

    @classmethod
    def of(cls, kind: str, name: Any, known: list[str], remedy: str = "") -> UnknownNameError:
        choices = ", ".join(known) or "none"
        short = not isinstance(name, str) or len(name) <= _LONGEST
        shown = name if short else f"{name[:_LONGEST]}..."
        close = get_close_matches(str(name), known, n=1) if short else []
        meant = f" (did you mean {close[0]!r}?)" if close else ""
        return cls(f"No {kind} is named {shown!r}{meant}; the choices are: {choices}.{remedy and ' ' + remedy}")


class UnknownKeyError(UnknownNameError, KeyError):
    """A key that a dictionary does not have; the message lists those it has."""

    __str__ = Exception.__str__  # `KeyError` would put it in quotes


class NotEnteredError(SolvertapError, AttributeError):
    """Something was asked of an `observe(...)` that `with observe(...) as seen` gives."""


class MissingExtraError(SolvertapError, ImportError):
    """An optional dependency is not installed; the message gives the command that installs it."""

    @classmethod
    def of(cls, what: str, extra: str) -> MissingExtraError:
        return cls(f"{what} is not installed; run `pip install 'solvertap[{extra}]'`.")


class PluginError(SolvertapError, RuntimeError):
    """A plugin or an adapter that cannot be used, with the reason."""


class StepError(PluginError):
    """An adapter handed over a step, or a carry, that does not fit its solve, or after its end.

    It is the adapter's fault and names it. The first step of a Python loop is looked at, every one where
    `SOLVERTAP_CHECK_STEPS=1` is set, and whatever is traced.
    """


class NothingObservedError(SolvertapError, RuntimeError):
    """A value was asked of an observation in which no solve was seen."""


class EscapedTraceError(SolvertapError, RuntimeError):
    """A value outlives its trace: the block stands outside the transformation, or it is read when that has ended."""


class MixedFrameworksError(SolvertapError, TypeError):
    """The solves of one observation belong to two frameworks, whose values cannot be added."""


class CheckpointError(SolvertapError, RuntimeError):
    """`observe(checkpoint=True)` stands where steps cannot be taken once more.

    Raised before the solve starts; in the backward pass only where a field does not repeat itself, or a state has
    been changed in place.
    """


class AlignError(SolvertapError, RuntimeError):
    """`observe(align=True)` stands where the reference steps cannot be taken. Raised before the solve starts."""


class PenaltyRefusedError(SolvertapError, RuntimeError):
    """A term was asked for where it would carry no gradient. Raised before the solve starts."""


class ContinuousAdjointError(PenaltyRefusedError):
    """A continuous adjoint re-solves backwards and ignores whatever the forward steps produced."""


class GradientDisabledError(PenaltyRefusedError):
    """The caller has switched automatic differentiation off."""


class FixedStepError(PenaltyRefusedError):
    """The step sizes are fixed, so the solver estimates no error."""


class NoEstimateError(PenaltyRefusedError):
    """The solver does not produce the estimate that the term measures."""


class NoToleranceError(PenaltyRefusedError):
    """The error is to be scaled by a tolerance, and neither the solve nor the term has one."""


class RoundingWarning(RuntimeWarning):
    """The tolerance of a solve is less than the rounding of its states, so that measures may be mostly rounding.

    It is said once in a process for each adapter and its terms.
    """
