"""How torchdyn solves a problem that it is given, for `solvertap doctor` and the conformance kit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from threading import Lock
from typing import Any

import torch
from torchdyn.numerics import odeint
from torchdyn.numerics.solvers.ode import DormandPrince45

from solvertap.adapting import Patches
from solvertap_torch import TorchTrial

odeint_module: Any = import_module("torchdyn.numerics.odeint")


class TorchdynTrial(TorchTrial):
    """By `odeint` and dopri5; under an adjoint by `ODEProblem`."""

    reference = "torchdiffeq"

    def solve(
        self, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, *, rtol: float, atol: float, first: Any
    ) -> Any:
        with _controlled(
            init_step=None if first is None else lambda *_: torch.as_tensor(first, dtype=y0.dtype, device=y0.device)
        ):
            solver, slope = _dopri5(y0), lambda t, y: field(_scalar(t), y, parameters)
            return odeint(slope, y0, _times(y0, t0, t1), solver, atol=atol, rtol=rtol)[1][-1]

    def one_step(self, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, *, rtol: float, atol: float) -> Any:
        # Longer than the interval, at whose end it is cut; an error of 0 is accepted.
        first = 2 * abs(float(t1 - t0))
        with _controlled(hairer_norm=lambda scaled: torch.zeros_like(scaled.real.sum())):
            return self.solve(field, parameters, y0, t0, t1, rtol=rtol, atol=atol, first=first)

    def adjoint(
        self, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, *, rtol: float, atol: float, first: Any
    ) -> Any:
        from torchdyn.core import ODEProblem  # it imports Lightning

        problem = ODEProblem(_Module(field, parameters), _dopri5(y0), sensitivity="adjoint", atol=atol, rtol=rtol)
        with _controlled(init_step=lambda *_: torch.as_tensor(first, dtype=y0.dtype, device=y0.device)):
            return problem(y0, _times(y0, t0, t1))[1][-1]


class _Module(torch.nn.Module):
    """A field whose parameters are a given tensor, no leaf that torchdyn would make of it."""

    def __init__(self, field: Any, given: Any) -> None:
        super().__init__()
        self.field = field
        self.given = given

    def parameters(self, recurse: bool = True) -> Iterator[Any]:  # noqa: ARG002  # torch's signature
        return iter((self.given,))

    def forward(self, t: Any, x: Any) -> Any:
        return self.field(_scalar(t), x, self.given)


def _times(y0: Any, t0: Any, t1: Any) -> Any:
    return torch.tensor([t0, t1], dtype=y0.dtype, device=y0.device)


def _scalar(t: Any) -> Any:
    return t.reshape(())  # odeint.py: of shape (1,) in a step


def _dopri5(y0: Any) -> Any:
    solver: Any = DormandPrince45(y0.dtype)
    # templates.py has them in float32, to which they would round every step size.
    for name in ("safety", "min_factor", "max_factor"):
        setattr(solver, name, getattr(solver, name).to(y0.dtype))
    return solver


_chosen: dict[str, ContextVar[Any]] = {name: ContextVar(name) for name in ("init_step", "hairer_norm")}
_patches = Patches()
_lock = Lock()
_inside = 0  # how many blocks are open, in all threads


@contextmanager
def _controlled(**chosen: Any) -> Iterator[None]:
    """A block in which functions of odeint.py's, which it looks up as module globals, are others in this thread.

    `odeint` has no option for the first step, nor for a step that is always accepted. None is torchdyn's own function.
    """
    global _inside
    with _lock:
        _inside += 1
        for name in _chosen:
            _patches.replace(odeint_module, name, _switched(name))
    tokens = {name: _chosen[name].set(function) for name, function in chosen.items()}
    try:
        yield
    finally:
        for name, token in tokens.items():
            _chosen[name].reset(token)
        with _lock:
            _inside -= 1
            if not _inside:
                _patches.undo()


def _switched(name: str) -> Callable[[Any], Any]:
    def switch(original: Any) -> Any:
        def function(*args: Any) -> Any:
            return (_chosen[name].get(None) or original)(*args)

        return function

    return switch
