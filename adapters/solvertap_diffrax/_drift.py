"""The slope of a diffrax problem with any terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffrax
import jax
from diffrax._heuristics import is_sde
from diffrax._term import WrapTerm

from solvertap_jax.structure import tree_sum

_IN_TIME = (diffrax.ODETerm, diffrax.UnderdampedLangevinDriftTerm)


def direction(terms: Any) -> Any:
    """1 forwards in time, -1 backwards.

    diffrax 0.7 negates time to solve backwards (`_integrate.py::diffeqsolve`), with each term in a `WrapTerm`.
    """
    return _wrapped(terms)[0].direction


def drift(solver: Any, terms: Any, t0: Any, t1: Any, args: Any) -> Callable[[Any, Any], Any] | None:
    """The slope as a function of the user's time and a state, during the step from t0 to t1 of the solver's time.

    For an SDE it is the drift. For a control path X it is the mean rate during this step:
    vf(t, y) (X(t1) - X(t0)) / (t1 - t0). None if there is only noise.
    """
    if not isinstance(terms, diffrax.AbstractTerm):  # several, for parts of the state, as the solver defines
        return None if is_sde(terms) else lambda t, y: solver.func(terms, direction(terms) * t, y, args)
    smooth = [term for term in _wrapped(terms) if not is_sde(term)]
    if not smooth:
        return None

    def slope(t: Any, y: Any) -> Any:
        return tree_sum([_rate(term, t * term.direction, y, t0, t1, args) for term in smooth])

    return slope


def has_drift(terms: Any) -> bool:
    """Whether terms, as given to `diffeqsolve`, have a slope."""
    if not isinstance(terms, diffrax.AbstractTerm):
        return not is_sde(terms)
    leaves = jax.tree.leaves(terms, is_leaf=lambda x: isinstance(x, diffrax.AbstractTerm) and x is not terms)
    return any(not is_sde(term) for term in (leaves if isinstance(terms, diffrax.MultiTerm) else [terms]))


def _rate(term: Any, t: Any, y: Any, t0: Any, t1: Any, args: Any) -> Any:
    if isinstance(term.term, _IN_TIME):
        return term.vf(t, y, args)
    h = term.direction * (t1 - t0)
    moved = term.vf_prod(t, y, args, term.contr(t0, t1))
    return jax.tree.map(lambda x: x / h.astype(x.real.dtype), moved)


def _wrapped(terms: Any) -> list[Any]:
    leaves = jax.tree.leaves(terms, is_leaf=lambda x: isinstance(x, WrapTerm))
    return [leaf for leaf in leaves if isinstance(leaf, WrapTerm)]
