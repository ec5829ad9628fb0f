"""What the tests of neutrality share: random observations, and what a call and a package are, bit by bit."""

import sys
import warnings
from collections.abc import Callable
from itertools import combinations
from typing import Any, NamedTuple

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, settings

import solvertap as tap
from solvertap.errors import RoundingWarning
from tests.oracle import TERMS

# The same problems in every run. They are small as they are drawn: shrinking one would take minutes of solves.
SETTINGS = settings(
    derandomize=True, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow]
)


def draw(**choices):
    """One of each, by name. Nothing is drawn twice, so that Hypothesis makes no near copies of an example."""
    return st.fixed_dictionaries({name: st.sampled_from(list(values)) for name, values in choices.items()})


def observations():
    """What to observe: two terms by name, one, or none, with a trace or without."""
    return draw(names=[names for size in (2, 1, 0) for names in combinations(TERMS, size)], trace=[True, False])


def observe(names, trace):
    """A block that observes the terms of these names."""
    return tap.observe(sum((TERMS[name] for name in names), start=0) or None, trace=trace)


class Outcome(NamedTuple):
    """What a call gives, or the type and the message of what it raises, and what it warns of."""

    result: Any = None
    error: tuple[type, str] | None = None
    warnings: frozenset[str] = frozenset()

    @classmethod
    def of(cls, function: Callable[..., Any], *args, **options):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                outcome = cls(result=function(*args, **options))
            except Exception as error:
                outcome = cls(error=(type(error), str(error)))
        # What is said of a tolerance that asks for less than rounding, once, is of the term and not of the solve.
        others = [warning for warning in said if not issubclass(warning.category, RoundingWarning)]
        return outcome._replace(warnings=frozenset(str(warning.message) for warning in others))


class Originals:
    """Every attribute of every module and class of some packages, with its class: all that a patch may replace."""

    def __init__(self, *packages):
        self.packages = packages
        modules = [module for name, module in sys.modules.items() if self._own(name)]
        found = [x for module in modules for x in vars(module).values()]
        classes = [x for x in found if isinstance(x, type) and self._own(x.__module__)]
        self.found = [(owner, name, x, type(x)) for owner in modules + classes for name, x in vars(owner).items()]

    def _own(self, name):
        return any(f"{name}.".startswith(f"{package}.") for package in self.packages)

    def changed(self):
        """The names of those that are no longer the very object they were, or no longer of its class."""
        now = [(owner, name, vars(owner).get(name), x, kind) for owner, name, x, kind in self.found]
        return {f"{owner.__name__}.{name}" for owner, name, y, x, kind in now if y is not x or type(x) is not kind}


def leaves(x):
    """The tensors of a nested tuple."""
    return [leaf for part in x for leaf in leaves(part)] if isinstance(x, tuple) else [x]


def bits(x):
    """Every bit of the tensors of a nested tuple, with dtypes and shapes. In complex128 every dtype is exact."""
    if isinstance(x, tuple):
        return tuple(map(bits, x))
    return x if x is None else (x.dtype, x.shape, x.detach().cdouble().numpy().tobytes())
