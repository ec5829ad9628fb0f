"""The training steps of diffrax."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import diffrax
import jax
import jax.numpy as jnp

from solvertap import LocalError, anneal, observe

from .cases import CASES, Case
from .step import Block, Step, with_penalty


def jax_step(case: Case, block: Block) -> Step:
    """The training step of a case inside a block: one solve, forwards and backwards."""
    loss, given = _loss(case, lambda _: block())
    started = time.perf_counter()
    compiled = jax.jit(jax.grad(loss)).lower(*given).compile()
    seconds = time.perf_counter() - started
    size: Any = compiled.memory_analysis()
    # diffrax holds its checkpoints in the loop: of so many steps, whatever is observed.
    return Step(partial(_blocked, compiled, *given), seconds, size.temp_size_in_bytes)


def annealed_compilations(steps: int) -> int:
    """How often a training step in diffrax is compiled while its weight is annealed."""
    toy = next(case for case in CASES if case.backend == "diffrax")
    weight = anneal(10.0, 1.0, steps)
    loss, (parameters, _) = _loss(toy, lambda weight: observe(weight * LocalError()))
    step: Any = jax.jit(jax.grad(loss))
    for k in range(steps):
        step(parameters, weight(k))
    compiled: int = step._cache_size()
    return compiled


def _loss(case: Case, block: Callable[[Any], Any]) -> tuple[Callable[..., Any], tuple[Any, float]]:
    weights, state = case.model()
    jax.config.update("jax_enable_x64", case.problem.precision == 64)  # type: ignore[no-untyped-call]  # jax's own
    parameters = {name: jnp.asarray(value) for name, value in weights.items()}
    y0 = jnp.asarray(state)
    adjoint: Any = diffrax.BacksolveAdjoint if case.adjoint else diffrax.RecursiveCheckpointAdjoint
    options: dict[str, Any] = {"max_steps": 256, "adjoint": adjoint()}
    controller = diffrax.PIDController(rtol=case.tolerance, atol=case.tolerance)

    def loss(parameters: Any, weight: Any) -> Any:
        # As arguments: `BacksolveAdjoint` differentiates nothing that a field closes over.
        term = diffrax.ODETerm(lambda t, y, given: case.problem.field(given, t, y))
        with block(weight) as seen:
            solution: Any = diffrax.diffeqsolve(
                term, diffrax.Dopri5(), 0.0, 1.0, None, y0, parameters, stepsize_controller=controller, **options
            )
        return with_penalty((solution.ys[-1] ** 2).mean(), seen)

    return loss, (parameters, 1.0)


def _blocked(compiled: Any, *given: Any) -> Any:
    return jax.block_until_ready(compiled(*given))  # type: ignore[no-untyped-call]  # jax's own
