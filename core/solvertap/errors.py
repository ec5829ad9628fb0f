"""What solvertap raises. Every class is a `SolvertapError` and the builtin it refines.

    SolvertapError
    ├── InvalidInputError (ValueError)          a value that has no meaning where it stands
    ├── UnknownNameError (LookupError)          a name that does not exist
    │   └── UnknownKeyError (KeyError)          a key that a dictionary does not have
    ├── NotEnteredError (AttributeError)        a result read from `observe(...)` itself
    ├── MissingExtraError (ImportError)         an optional dependency that is not installed
    ├── PluginError (RuntimeError)              a plugin or an adapter that cannot be used
    │   └── StepError                           a step or a carry that does not fit its solve
    ├── NothingObservedError (RuntimeError)     a value read from a block without a solve
    ├── EscapedTraceError (RuntimeError)        a value used outside the transformation it belongs to
    ├── MixedFrameworksError (TypeError)        one sum over values of two frameworks
    ├── CheckpointError (RuntimeError)          `checkpoint=True` where steps cannot be recomputed
    ├── AlignError (RuntimeError)               `align=True` where reference steps are impossible
    └── PenaltyRefusedError (RuntimeError)      a term that would carry no gradient
        ├── ContinuousAdjointError              `odeint_adjoint`, `sdeint_adjoint`, `BacksolveAdjoint`, ...
        ├── GradientDisabledError               `torch.no_grad`, inference mode
        ├── FixedStepError                      steps that nothing adapts
        ├── NoEstimateError                     a solver without the estimate that the term measures
        └── NoToleranceError                    a scaled error without a tolerance

An exception of the framework being observed is never caught, wrapped or changed.

One warning has its own class: `RoundingWarning` (RuntimeWarning), for a measure that may be mostly rounding.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

_LONGEST = 60  # characters of a name that a message repeats


class SolvertapError(Exception):
    """The root of everything solvertap raises."""


class InvalidInputError(SolvertapError, ValueError):
    """A value that has no meaning where it stands; the message names it and the choices."""


class UnknownNameError(SolvertapError, LookupError):
    """A name that does not exist; the message lists those that do."""

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

    def __str__(self) -> str:
        return Exception.__str__(self)  # `KeyError` would put it in quotes


class NotEnteredError(SolvertapError, AttributeError):
    """A result was read from `observe(...)` itself; it belongs to `seen` in `with observe(...) as seen`."""


class MissingExtraError(SolvertapError, ImportError):
    """An optional dependency is not installed; the message gives the command that installs it."""

    @classmethod
    def of(cls, what: str, extra: str) -> MissingExtraError:
        return cls(f"{what} is not installed; run `pip install 'solvertap[{extra}]'`.")


class PluginError(SolvertapError, RuntimeError):
    """A plugin or an adapter that cannot be used, with the reason."""


class StepError(PluginError):
    """An adapter passed a step or a carry that does not fit its solve, or passed it after the end.

    The fault is the adapter's, and the message names it. solvertap checks the first step of a Python loop, or every
    step if `SOLVERTAP_CHECK_STEPS=1` is set, and every traced step.
    """


class NothingObservedError(SolvertapError, RuntimeError):
    """A value was read from an observation that saw no solve."""


class EscapedTraceError(SolvertapError, RuntimeError):
    """A value outlives its trace: the block stands outside the transformation, or it was read after that ended."""


class MixedFrameworksError(SolvertapError, TypeError):
    """The solves of one observation belong to two frameworks, whose values cannot be added."""


class CheckpointError(SolvertapError, RuntimeError):
    """`observe(checkpoint=True)` was given where steps cannot be recomputed.

    Raised before the solve starts; in the backward pass only if a field does not repeat itself, or a state was
    changed in place.
    """


class AlignError(SolvertapError, RuntimeError):
    """`observe(align=True)` was given where the reference steps cannot be taken. Raised before the solve starts."""


class PenaltyRefusedError(SolvertapError, RuntimeError):
    """A term would carry no gradient. Raised before the solve starts."""


class ContinuousAdjointError(PenaltyRefusedError):
    """A continuous adjoint solves again, backwards, and ignores the forward steps."""


class GradientDisabledError(PenaltyRefusedError):
    """The caller has switched automatic differentiation off."""


class FixedStepError(PenaltyRefusedError):
    """The step sizes are fixed, so the solver estimates no error."""


class NoEstimateError(PenaltyRefusedError):
    """The solver does not produce the estimate that the term measures."""


class NoToleranceError(PenaltyRefusedError):
    """The term scales the error by a tolerance, and neither the solve nor the term has one."""


class RoundingWarning(RuntimeWarning):
    """The tolerance of a solve is less than the rounding of its states, so that measures may be mostly rounding.

    It appears once in a process for each adapter and its terms.
    """
