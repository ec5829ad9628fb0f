"""What the author of an adapter needs. docs/plugins.md has the recipe; the built-in adapters import nothing else."""

from . import errors
from .attaching.adapter import Adapter
from .attaching.patch import Patch
from .attaching.patches import Patches
from .attaching.reference import initial_step, step_factor
from .attaching.require import require, require_parameters
from .attaching.serves import Serves
from .attaching.trial import Trial
from .observing.budget_numbers import squared_norms
from .observing.open_solve import later, open_solve
from .observing.regularize import regularizing
from .plugins.hookspecs import hookimpl
from .plugins.registry import register
from .solves.extra_step import ExtraStep
from .solves.fold import Carry, Fold
from .solves.framework import FallbackKey, Framework, ReplayCarry
from .solves.injection import Injection
from .solves.replay import Replay
from .solves.reservoir import RandomSource, Reservoir
from .solves.resolution import warn_of_rounding
from .solves.ride import Ridden, Ride
from .solves.rows import TraceBuffer, trace_row
from .solves.solve import Solve
from .solves.stats import Counts, Stats
from .solves.trace import Trace
from .solves.within import unobserved
from .steps.facts import Facts
from .steps.gradient import Gradient
from .steps.groups import Groups
from .steps.local_error import local_error
from .steps.stages import Stages
from .steps.step import Step, Steps
from .steps.tableau import Tableau
from .terms.step_term import StepTerm

__all__ = [
    "Adapter",
    "Carry",
    "Counts",
    "ExtraStep",
    "Facts",
    "FallbackKey",
    "Fold",
    "Framework",
    "Gradient",
    "Groups",
    "Injection",
    "Patch",
    "Patches",
    "RandomSource",
    "Replay",
    "ReplayCarry",
    "Reservoir",
    "Ridden",
    "Ride",
    "Serves",
    "Solve",
    "Stages",
    "Stats",
    "Step",
    "StepTerm",
    "Steps",
    "Tableau",
    "Trace",
    "TraceBuffer",
    "Trial",
    "errors",
    "hookimpl",
    "initial_step",
    "later",
    "local_error",
    "open_solve",
    "register",
    "regularizing",
    "require",
    "require_parameters",
    "squared_norms",
    "step_factor",
    "trace_row",
    "unobserved",
    "warn_of_rounding",
]
