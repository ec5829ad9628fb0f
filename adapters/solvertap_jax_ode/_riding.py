"""JAX's own `_odeint`, with a ride in the carries of its loops.

Values leave a compiled loop in its carry alone. So the code of `_odeint` runs with another `lax`, whose loops carry
more, and with taps on the two functions that it calls for each attempt. The solution comes from the same operations.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import FunctionType
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import ode
from jax.flatten_util import ravel_pytree

from solvertap.adapting import Ridden, Ride

from ._step import first_step, read_step

_ode: Any = ode  # its functions have no types


def with_globals(function: Any, **changed: Any) -> Callable[..., Any]:
    """The function of the module below all decorators, with some of the module's names changed."""
    function = inspect.unwrap(function)
    names = vars(ode) | changed
    copy = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5, 6))
@jax.default_matmul_precision("highest")  # type: ignore[untyped-decorator]
def solve_riding(
    ride: Ride,
    align: bool,
    func: Any,
    rtol: Any,
    atol: Any,
    mxstep: Any,
    hmax: Any,
    start: Ridden,
    y0: Any,
    ts: Any,
    *args: Any,
) -> tuple[Any, Ridden]:
    """What `_odeint_wrapper` returns, and what has ridden along from `start`; by the reference steps if `align`."""
    _, unravel = ravel_pytree(y0)
    ends: list[Ridden] = []

    def _odeint(func: Any, rtol: Any, atol: Any, mxstep: Any, hmax: Any, y0: Any, ts: Any, *args: Any) -> Any:
        problem = _Problem(ride, align, unravel, func, rtol, atol, mxstep, hmax)
        ys, ridden = cast(Any, _riding)(problem, start, y0, ts, *args)
        ends.append(ridden)
        return ys

    solution = with_globals(_ode._odeint_wrapper, _odeint=_odeint)(func, rtol, atol, mxstep, hmax, y0, ts, *args)
    return solution, ends[0]


@dataclass(frozen=True, eq=False)
class _Problem:
    ride: Ride
    align: bool
    unravel: Callable[[Any], Any]
    func: Callable[..., Any]
    rtol: Any
    atol: Any
    mxstep: Any
    hmax: Any

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The first arguments of `_odeint` and of its derivative."""
        return self.func, self.rtol, self.atol, self.mxstep, self.hmax


@partial(jax.custom_vjp, nondiff_argnums=(0,))
@jax.default_matmul_precision("highest")  # type: ignore[untyped-decorator]
def _riding(problem: _Problem, start: Ridden, y0: Any, ts: Any, *args: Any) -> tuple[Any, Ridden]:
    loops = _Loops(problem, start, ts[-1] if problem.align else None)
    taps = {"lax": loops, "runge_kutta_step": loops.runge_kutta_step, "mean_error_ratio": loops.mean_error_ratio}
    if problem.align:
        taps["initial_step_size"] = first_step
    ys = with_globals(_ode._odeint, **taps)(*problem.arguments, y0, ts, *args)
    return ys, loops.ridden


def _riding_fwd(problem: _Problem, start: Ridden, y0: Any, ts: Any, *args: Any) -> Any:
    ys, ridden = cast(Any, _riding)(problem, start, y0, ts, *args)
    return (ys, ridden), (ys, ts, args)


def _riding_rev(problem: _Problem, residuals: Any, cotangents: Any) -> Any:
    return None, *_ode._odeint_rev(*problem.arguments, residuals, cotangents[0])  # what rides carries no gradient


_riding.defvjp(_riding_fwd, _riding_rev)


class _Loops:
    """`jax.lax`, but for a ride in the carries of `scan` and of the `while_loop` inside of it.

    Attributes:
        ridden: what has ridden so far, as it is known where JAX traces.
    """

    def __init__(self, problem: _Problem, start: Ridden, end: Any) -> None:
        self.ridden = start
        self._problem = problem
        self._end = end  # at which the last step ends; None where it may go past it

    def __getattr__(self, name: str) -> Any:
        return getattr(lax, name)

    def runge_kutta_step(self, func: Any, y0: Any, f0: Any, t0: Any, dt: Any) -> Any:
        attempt = _ode.runge_kutta_step(func, y0, f0, t0, dt)
        self._attempt = y0, t0, dt, attempt
        return attempt

    def mean_error_ratio(self, *inputs: Any) -> Any:
        self._ratio = _ode.mean_error_ratio(*inputs)
        return self._ratio

    def scan(self, f: Any, init: Any, xs: Any) -> Any:
        def body(state: Any, x: Any) -> Any:
            carry, self.ridden = state
            carry, y = f(carry, x)
            return (carry, self.ridden), y

        (carry, self.ridden), ys = lax.scan(body, (init, self.ridden), xs)
        return carry, ys

    def while_loop(self, cond_fun: Any, body_fun: Any, init_val: Any) -> Any:
        def body(state: Any) -> Any:
            own, ridden = state
            own = body_fun(own) if self._end is None else self._up_to_end(body_fun, own)
            return own, self._update(ridden)

        own, self.ridden = lax.while_loop(lambda state: cond_fun(state[0]), body, (init_val, self.ridden))
        return own

    def _up_to_end(self, body_fun: Any, own: Any) -> Any:
        """An attempt that goes no further than the end; see `_odeint` for the state of its loop."""
        i, y, f, t, dt, *rest = own
        left = (self._end - t).astype(dt.dtype)
        is_last = dt >= left
        i, y, f, t, dt, *rest = body_fun([i, y, f, t, jnp.minimum(dt, left), *rest])
        t = jnp.where((self._ratio <= 1.0) & is_last, self._end, t)  # the sum of t and `left` is rounded
        return [i, y, f, t, dt, *rest]

    def _update(self, ridden: Ridden) -> Ridden:
        problem = self._problem
        _, t0, dt, _ = self._attempt
        step = read_step(*self._attempt, problem.unravel, problem.rtol, problem.atol)
        accepted = self._ratio <= 1.0  # as `_odeint` decides
        del self._attempt, self._ratio
        return problem.ride.update(ridden, step, accepted, (t0, dt))
