"""solvertap taps the steps of differential-equation solvers: one term, the same in every framework."""

from . import errors
from .adapter import Adapter
from .attachment import attach, attached, detach
from .blocks import observe, open_solve, tapped, unobserved
from .builtin_terms import TSIT5_STABILITY_SIZE, LocalError, Stiffness
from .hookspecs import hookimpl
from .measures import local_error, stiffness
from .observation import Observation
from .patching import Patches
from .plugins import plugins, register
from .presets import PRESETS, Preset
from .reference import initial_step
from .schedules import anneal
from .solve import Carry, Fold, Solve
from .statistics import Stats
from .step import Stages, Step, end_gap
from .terms import StepTerm, Term, term
from .trace import Trace, TraceBuffer, trace_row

__all__ = [
    "PRESETS",
    "TSIT5_STABILITY_SIZE",
    "Adapter",
    "Carry",
    "Fold",
    "LocalError",
    "Observation",
    "Patches",
    "Preset",
    "Solve",
    "Stages",
    "Stats",
    "Step",
    "StepTerm",
    "Stiffness",
    "Term",
    "Trace",
    "TraceBuffer",
    "anneal",
    "attach",
    "attached",
    "detach",
    "end_gap",
    "errors",
    "hookimpl",
    "initial_step",
    "local_error",
    "observe",
    "open_solve",
    "plugins",
    "register",
    "stiffness",
    "tapped",
    "term",
    "trace_row",
    "unobserved",
]

__version__ = "0.1.0"
