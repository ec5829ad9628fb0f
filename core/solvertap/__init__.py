"""solvertap taps the steps of differential-equation solvers: one term, the same in every framework."""

from . import errors
from .adapter import Adapter
from .attachment import attach, attached, detach, misfits
from .blocks import later, observe, open_solve, tapped
from .builtin_terms import SOSRI2_STABILITY_SIZE, TSIT5_STABILITY_SIZE, LocalError, Stiffness
from .fold import Carry, Fold
from .function_term import term
from .gradients import Gradient
from .hookspecs import hookimpl
from .language import parse_term
from .measures import local_error, stiffness
from .observation import Observation
from .offered import Passage, Record
from .patching import Patches
from .plugins import plugins, register
from .presets import PRESETS, Preset
from .probing import require, require_parameters
from .reference import initial_step, step_factor
from .regularization import regularize, regularizing
from .resolution import warn_of_rounding
from .samples import Draws, Kept, LocalSample, Unkeyed
from .sampling import Sampling
from .schedules import anneal
from .slope_measures import kinetic_energy, slope_change
from .slope_terms import KineticEnergy, SlopeChange, SquaredLocalError
from .solve import Solve
from .stages import Stages, Tableau
from .statistics import Replayed, Stats
from .step import Step, Steps
from .terms import StepTerm, Term
from .trace import Trace, TraceBuffer, trace_row
from .trial import Trial
from .within import unobserved

__all__ = [
    "PRESETS",
    "SOSRI2_STABILITY_SIZE",
    "TSIT5_STABILITY_SIZE",
    "Adapter",
    "Carry",
    "Draws",
    "Fold",
    "Gradient",
    "Kept",
    "KineticEnergy",
    "LocalError",
    "LocalSample",
    "Observation",
    "Passage",
    "Patches",
    "Preset",
    "Record",
    "Replayed",
    "Sampling",
    "SlopeChange",
    "Solve",
    "SquaredLocalError",
    "Stages",
    "Stats",
    "Step",
    "StepTerm",
    "Steps",
    "Stiffness",
    "Tableau",
    "Term",
    "Trace",
    "TraceBuffer",
    "Trial",
    "Unkeyed",
    "anneal",
    "attach",
    "attached",
    "detach",
    "errors",
    "hookimpl",
    "initial_step",
    "kinetic_energy",
    "later",
    "local_error",
    "misfits",
    "observe",
    "open_solve",
    "parse_term",
    "plugins",
    "register",
    "regularize",
    "regularizing",
    "require",
    "require_parameters",
    "slope_change",
    "step_factor",
    "stiffness",
    "tapped",
    "term",
    "trace_row",
    "unobserved",
    "warn_of_rounding",
]

__version__ = "0.1.0"


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
