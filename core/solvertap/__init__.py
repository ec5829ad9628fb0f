"""solvertap taps the steps of differential-equation solvers: one term, the same in every framework.

Authors of adapters import from `solvertap.adapting`.
"""

from typing import TYPE_CHECKING

from . import errors
from .observing.budget import budget
from .observing.observation import Observation
from .observing.observe import observe, tapped
from .observing.regularize import regularize
from .plugins.attachment import attach, attached, detach, misfits
from .plugins.hookspecs import hookimpl
from .plugins.registry import parse_term, register
from .solves.injection import Record
from .solves.stats import Stats
from .solves.trace import Trace
from .solves.within import unobserved
from .steps.local_error import local_error
from .steps.slopes import kinetic_energy, slope_change
from .steps.step import Step
from .steps.stiffness import stiffness
from .terms.error_and_stiffness import SOSRI2_STABILITY_SIZE, TSIT5_STABILITY_SIZE, LocalError, Stiffness
from .terms.function import term
from .terms.local_sample import LocalSample
from .terms.presets import PRESETS
from .terms.schedule import anneal
from .terms.slopes import KineticEnergy, SlopeChange, SquaredLocalError
from .terms.step_term import StepTerm
from .terms.term import Term

__all__ = [
    "PRESETS",
    "SOSRI2_STABILITY_SIZE",
    "TSIT5_STABILITY_SIZE",
    "KineticEnergy",
    "LocalError",
    "LocalSample",
    "Observation",
    "Record",
    "SlopeChange",
    "SquaredLocalError",
    "Stats",
    "Step",
    "StepTerm",
    "Stiffness",
    "Term",
    "Trace",
    "anneal",
    "attach",
    "attached",
    "budget",
    "detach",
    "errors",
    "hookimpl",
    "kinetic_energy",
    "local_error",
    "misfits",
    "observe",
    "parse_term",
    "register",
    "regularize",
    "slope_change",
    "stiffness",
    "tapped",
    "term",
    "unobserved",
]

__version__: str = "0.1.0"


if not TYPE_CHECKING:  # it knows what there is, and says so itself

    def __getattr__(name: str) -> object:
        from .adapting import __all__ as others

        if name in others:
            raise AttributeError(f"`solvertap.{name}` is for authors of adapters; import it from `solvertap.adapting`.")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
