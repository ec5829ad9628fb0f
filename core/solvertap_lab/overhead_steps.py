"""The training steps whose cost `make bench` measures: one solve each, forwards and backwards, bare or observed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from solvertap.observing.observation import Observation
from solvertap.observing.observe import observe
from solvertap.steps.arrays import Array
from solvertap.terms.error_and_stiffness import LocalError
from solvertap.terms.schedule import anneal

from .mnist import Mnist
from .problem import Parameters, Problem, apply, dense
from .spiral import Spiral, SpiralSDE
from .trainer import Setting

Block = Callable[[], Any]

_LAYERS = 16


class Layered(Spiral):
    """A field of 16 dense layers on 20 numbers, as wide as that of Pal21's latent ODE; its batches are of 512."""

    name = "layered"

    def parameters(self, rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
        widths = [20, 50] * (_LAYERS // 2) + [20]
        layers = [dense(rng, a, b, f"layer{i}") for i, (a, b) in enumerate(pairwise(widths))]
        return {name: value for layer in layers for name, value in layer.items()}

    def field(self, parameters: Parameters, t: Array, y: Array) -> Array:  # noqa: ARG002  # autonomous
        for i in range(_LAYERS):
            y = array_namespace(y).tanh(apply(parameters, f"layer{i}", y))
        return y


class Two(Spiral):
    """A field of two dense layers on 2 numbers, of whose solve the end alone is read."""

    name = "two"
    times = (0.0, 1.0)
    widths = (2, 32)

    def parameters(self, rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
        size, hidden = self.widths
        return dense(rng, size, hidden, "hidden") | dense(rng, hidden, size, "out")

    def field(self, parameters: Parameters, t: Array, y: Array) -> Array:  # noqa: ARG002  # autonomous
        return apply(parameters, "out", array_namespace(y).tanh(apply(parameters, "hidden", y)))


class TwoWide(Two):
    """The same on 20 numbers."""

    name = "two-wide"
    widths = (20, 50)


class ShortSDE(SpiralSDE):
    """The spiral SDE, of whose solve the end alone is read."""

    name = "short-sde"
    times = (0.0, 1.0)


@dataclass(frozen=True)
class Case:
    """One problem in one framework.

    Attributes:
        backend: the framework.
        label: what the table calls the problem.
        problem: its field and weights.
        shape: of the initial state.
        tolerance: both rtol and atol.
        steps: at least so many, by a bound on their size; None to leave them to the tolerance.
        first_step: its size in torch; None for the library's own choice, or for SDEs that of the experiments.
    """

    backend: str
    label: str
    problem: Problem
    shape: tuple[int, int]
    tolerance: float
    steps: int | None = None
    first_step: float | None = None

    def step(self, block: Block) -> Step:
        """The training step inside a block."""
        return _jax_step(self, block) if self.backend == "diffrax" else _torch_step(self, block)


@dataclass(frozen=True)
class Step:
    """A training step that is ready to run.

    Attributes:
        run: takes it once.
        compile_seconds: what compiling it took; 0 where nothing is compiled.
        peak_bytes: the most that is held at any time of it, beyond what it is given.
    """

    run: Callable[[], Any]
    compile_seconds: float
    peak_bytes: int


_SIZES: tuple[tuple[str, type[Problem], tuple[int, int], float], ...] = (
    ("spiral, 64 x 2", Spiral, (64, 2), 1e-7),
    ("MNIST, 128 x 784", Mnist, (128, 784), 1e-5),
    ("MNIST, 512 x 784", Mnist, (512, 784), 1e-5),
    ("16 layers, 512 x 20", Layered, (512, 20), 1e-7),
)
CASES = (
    *(
        Case(backend, label, problem(), shape, tolerance)
        for backend in ("torchdiffeq", "diffrax")
        for label, problem, shape, tolerance in _SIZES
    ),
    Case("torchsde", "spiral SDE, 64 x 2", SpiralSDE(), (64, 2), 1e-2),
)
_SHORT: tuple[tuple[str, type[Problem], tuple[int, int], float], ...] = (
    ("2 layers, 64 x 2, short", Two, (64, 2), 1e-4),
    ("2 layers, 64 x 20, short", TwoWide, (64, 20), 1e-4),
    ("MNIST, 128 x 784, short", Mnist, (128, 784), 1e-2),
)
SHORT = (
    *(
        Case(backend, label, problem(), shape, tolerance, first_step=0.25)
        for backend in ("torchdiffeq", "diffrax")
        for label, problem, shape, tolerance in _SHORT
    ),
    Case("torchsde", "spiral SDE, 64 x 2, short", ShortSDE(), (64, 2), 1e-1, first_step=0.25),
)
"""Solves of two to five steps, which are what a regularized model takes: there the fixed part of the cost counts."""

LONG = Case("torchdiffeq", "16 layers, 512 x 20, 200 steps", Layered(), (512, 20), 1e-2, steps=200)


def _model(case: Case) -> tuple[dict[str, Any], Any, type[np.floating[Any]]]:
    rng = np.random.default_rng(0)
    dtype = np.float64 if case.problem.precision == 64 else np.float32
    return case.problem.parameters(rng), rng.uniform(0, 1, case.shape), dtype


def _with_penalty(loss: Any, seen: Observation | None) -> Any:
    return loss + seen.penalty if seen is not None and seen.weighted else loss


def _torch_step(case: Case, block: Block) -> Step:
    import torch

    from .memory import most_held

    solve: Callable[..., Any]
    if case.backend == "torchsde":
        from .torchsde_solve import torchsde_solve

        solve = torchsde_solve if case.first_step is None else partial(torchsde_solve, first_step=case.first_step)
    else:
        from .torchdiffeq_solve import torchdiffeq_solve

        given = {"max_step": None if case.steps is None else 1 / case.steps, "first_step": case.first_step}
        solve = partial(torchdiffeq_solve, options={name: x for name, x in given.items() if x is not None})
    weights, state, dtype = _model(case)
    setting = Setting(case.problem, (), case.tolerance, align=False, precision=case.problem.precision, seed=0)
    parameters = {name: torch.tensor(value.astype(dtype)).requires_grad_() for name, value in weights.items()}
    used = [value for name, value in parameters.items() if not name.startswith("head")]
    y0 = torch.tensor(state.astype(dtype))

    def loss() -> Any:
        torch.manual_seed(0)  # the Brownian path of an SDE
        with block() as seen:
            states = solve(setting, parameters, y0)
        return _with_penalty((states[-1] ** 2).mean(), seen)

    def run() -> Any:
        return torch.autograd.grad(loss(), used)

    run()  # what is made once is not of the step
    return Step(run, 0.0, most_held(run))


def _jax_step(case: Case, block: Block) -> Step:
    import jax

    loss, given = _jax_loss(case, lambda _: block())
    started = time.perf_counter()
    compiled = jax.jit(jax.grad(loss)).lower(*given).compile()
    seconds = time.perf_counter() - started
    size: Any = compiled.memory_analysis()
    # diffrax holds its checkpoints in the loop: of so many steps, whatever is observed.
    return Step(partial(_blocked, compiled, *given), seconds, size.temp_size_in_bytes)


def annealed_compilations(steps: int) -> int:
    """How often a training step in diffrax is compiled while its weight is annealed."""
    import jax

    toy = next(case for case in CASES if case.backend == "diffrax")
    weight = anneal(10.0, 1.0, steps)
    loss, (parameters, _) = _jax_loss(toy, lambda weight: observe(weight * LocalError()))
    step: Any = jax.jit(jax.grad(loss))
    for k in range(steps):
        step(parameters, weight(k))
    compiled: int = step._cache_size()
    return compiled


def _jax_loss(case: Case, block: Callable[[Any], Any]) -> tuple[Callable[..., Any], tuple[Any, float]]:
    import diffrax
    import jax
    import jax.numpy as jnp

    weights, state, dtype = _model(case)
    jax.config.update("jax_enable_x64", case.problem.precision == 64)  # type: ignore[no-untyped-call]  # jax's own
    parameters = {name: jnp.asarray(value, dtype) for name, value in weights.items()}
    y0 = jnp.asarray(state, dtype)
    controller = diffrax.PIDController(rtol=case.tolerance, atol=case.tolerance)

    def loss(parameters: Any, weight: Any) -> Any:
        term = diffrax.ODETerm(lambda t, y, _: case.problem.field(parameters, t, y))
        with block(weight) as seen:
            solution: Any = diffrax.diffeqsolve(
                term, diffrax.Dopri5(), 0.0, 1.0, None, y0, stepsize_controller=controller, max_steps=256
            )
        return _with_penalty((solution.ys[-1] ** 2).mean(), seen)

    return loss, (parameters, 1.0)


def _blocked(compiled: Any, *given: Any) -> Any:
    import jax

    return jax.block_until_ready(compiled(*given))  # type: ignore[no-untyped-call]  # jax's own
