"""The solver that carries a fold.

The carry is part of the solver state, which diffrax keeps for accepted steps only (`_integrate.py`, `keep`). That
alone leaves rejected steps out, under jit, vmap and every differentiable adjoint. A trace has rejected steps too, so it
is part of the controller state, which diffrax always keeps; the solver returns each row with its error.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple, cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from solvertap import Step
from solvertap.adapting import Carry, Fold, Groups, RandomSource, Reservoir, trace_row, warn_of_rounding
from solvertap_jax.structure import as_state, as_tree

from ._drift import direction, drift
from ._method import is_half, lacks_estimate, shows_whole_step, stability_size
from ._norm import as_norm
from ._stages import read_stages


class _Row(eqx.Module):
    """An error with the trace row of its step."""

    error: Any
    row: Any


class Grid(NamedTuple):
    """The accepted steps of a solve, in the solver's time, each array of the length of `max_steps`."""

    t0: Any
    t1: Any
    made_jump: Any

    def with_step(self, n: Any, *step: Any) -> Grid:
        """With one more step, the n-th."""
        return Grid(*(x.at[n].set(value) for x, value in zip(self, step, strict=True)))


class TappedSolver(diffrax.AbstractWrappedSolver[Any]):
    """A solver that folds the steps it takes. Its steps are those of the solver it wraps."""

    inner: diffrax.AbstractSolver[Any]
    fold: Fold = eqx.field(static=True)
    rtol: Any
    atol: Any
    norm: Any
    source: RandomSource | None
    traced: bool = eqx.field(static=True)
    grid: Grid | None = None
    groups: Groups | None = eqx.field(static=True, default=None)

    def __getattr__(self, name: str) -> Any:
        # diffrax reads fields of the solver's kind (`scan_kind`, `root_finder`), which the wrapped solver has.
        if name == "inner" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.inner, name)

    # Properties where diffrax declares class attributes, as in its own HalfSolver.
    @property
    def solver(self) -> Any:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """The solver for diffrax's instance checks. They look one wrapper deep, so ours must not be a second one."""
        wrapped = issubclass(type(self.inner), diffrax.AbstractWrappedSolver)
        return cast(Any, self.inner).solver if wrapped else self.inner

    @property
    def term_structure(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.term_structure

    @property
    def interpolation_cls(self) -> Any:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.inner.interpolation_cls

    @property
    def term_compatible_contr_kwargs(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.term_compatible_contr_kwargs

    def order(self, terms: Any) -> Any:
        return self.inner.order(terms)

    def strong_order(self, terms: Any) -> Any:
        return self.inner.strong_order(terms)

    def error_order(self, terms: Any) -> Any:
        return self.inner.error_order(terms)

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        return self.inner.func(terms, t0, y0, args)

    def start(self, y0: Any) -> list[Any]:
        """The arrays of the carry, and of the grid for a replay; diffrax allows no empty tuple in a solver state."""
        return jax.tree.leaves((self._start(y0), self.grid))

    def carry(self, arrays: list[Any], y0: Any) -> tuple[Carry, Grid | None]:
        """The carry, and the grid, with these arrays."""
        structure = jax.tree.structure((self._start(y0), self.grid))
        return jax.tree.unflatten(structure, arrays)  # type: ignore[no-any-return]

    def _start(self, y0: Any) -> Any:
        carry = self.fold.start(as_state(y0))
        if self.fold.kinds:
            # Times in the widest dtype, so that no step needs a wider one.
            nothing = Reservoir(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()), stop_gradient(as_state(y0)))
            carry = carry._replace(reservoirs=(nothing,) * len(self.fold.kinds))
        return jax.tree.map(jnp.asarray, carry)

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> Any:
        # Here diffrax has promoted the state by the dtype of the times.
        warn_of_rounding("diffrax", self.fold, self.rtol, self.atol, as_state(y0))
        return self.inner.init(terms, t0, t1, y0, args), self.start(y0)

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any
    ) -> tuple[Any, Any, Any, Any, Any]:
        state, arrays = solver_state
        start = state
        y1, error, dense_info, state, result = self.inner.step(terms, t0, t1, y0, args, start, made_jump)
        step = self._read(terms, t0, t1, y0, y1, error, dense_info, args)
        if self.fold.needs_step_doubling and self._lacks(error):
            step = self._doubled(step, self._in_halves(terms, t0, t1, y0, args, start, made_jump))
        carry, grid = self.carry(arrays, y0)
        if grid is not None:
            grid = grid.with_step(carry.accepted, t0, t1, made_jump)
        carry = self.fold.update(carry, step, self.source)
        if self.traced:
            error = _Row(error, trace_row(step, stop_gradient, self.groups))
        return y1, error, dense_info, (state, jax.tree.leaves((carry, grid))), result

    def restart(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, needs_step_doubling: bool) -> Step:
        """One step from y0 between two of the solver's times."""
        state = self.inner.init(terms, t0, t1, y0, args)
        return self.take(terms, t0, t1, y0, args, state, False, needs_step_doubling)[0]

    def take(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: Any,
        args: Any,
        start: Any,
        made_jump: Any,
        needs_step_doubling: bool,
    ) -> tuple[Step, Any, Any]:
        """One step, the state at its end, and the state of the solver."""
        # By position: a user's step may name its arguments differently.
        y1, error, dense_info, state, _ = self.inner.step(terms, t0, t1, y0, args, start, made_jump)
        step = self._read(terms, t0, t1, y0, y1, error, dense_info, args)
        if needs_step_doubling and self._lacks(error):
            step = self._doubled(step, self._in_halves(terms, t0, t1, y0, args, start, made_jump))
        return step, y1, state

    def _lacks(self, error: Any) -> bool:
        return error is None or lacks_estimate(self.inner)

    @staticmethod
    def _doubled(step: Step, halves: Any) -> Step:
        return replace(step, y1_embedded=as_state(halves), doubled=True)

    def _in_halves(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, state: Any, made_jump: Any) -> Any:
        t0, t1 = stop_gradient(t0), stop_gradient(t1)
        middle = t0 + 0.5 * (t1 - t0)  # as HalfSolver has it
        y, _, _, state, _ = self.inner.step(terms, t0, middle, y0, args, state, made_jump)
        return self.inner.step(terms, middle, t1, y, args, state, False)[0]

    def _read(self, terms: Any, t0: Any, t1: Any, y0: Any, y1: Any, error: Any, dense_info: Any, args: Any) -> Step:
        t0, t1 = stop_gradient(t0), stop_gradient(t1)
        structure = jax.tree.structure(y1)
        sign = direction(terms)
        half = is_half(self.inner)
        whole = half and shows_whole_step(self.inner, dense_info)
        # Without the whole step there is no second solution: HalfSolver's error is an absolute value.
        field = None if half and not whole else drift(self.inner, terms, t0, t1, args)
        return Step(
            t0=sign * t0,
            t1=sign * t1,
            y0=as_state(y0),
            y1=as_state(y1),
            error=None if self._lacks(error) else as_state(error),
            # HalfSolver returns the absolute value of its error, but interpolates the whole step.
            y1_embedded=as_state(dense_info["y1"]) if whole else None,
            doubled=half,
            rtol=self.rtol,
            atol=self.atol,
            # The default norm is the core's own; any other maps the user's pytree.
            norm=as_norm(self.norm, structure),
            stages=read_stages(self.inner, terms, sign * (t1 - t0), y0, y1, error, dense_info),
            field=None if field is None else lambda t, y: as_state(field(t, as_tree(structure, y))),
            stability_size=stability_size(self.inner),
            accepted=None,  # `diffeqsolve` drops the solver state of a rejected step
        )
