"""What observing costs: training steps observed and bare, as ratios in one run. `make bench` prints the table.

Each observed step is timed beside a bare one, in turn, so that a drift of the machine meets both. The problem is
Pal21's MNIST field on random images; a step is one solve, forwards and backwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from statistics import median, quantiles
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ..attachment import attach, detach
from ..blocks import observe
from ..builtin_terms import LocalError, Stiffness
from ..observation import Observation
from ..terms import Term
from .mnist import Mnist
from .report import describe_machine
from .trainer import Setting

_PAIRS = 15
_BATCH_SIZES = (128, 512)
_TOLERANCE = 1e-5
# None observes the counts alone; the idle step is the bare one while the taps are attached.
_OBSERVED: dict[str, Term | None] = {
    "statistics": None,
    "local error": LocalError(),
    "stiffness": Stiffness(),
    "both": LocalError() + Stiffness(),
}

Step = Callable[[], Any]


def main() -> None:
    """Measures torchdiffeq and diffrax and prints one table."""
    makers = {"torchdiffeq": _torch_step, "diffrax": _jax_step}
    cases = [(name, size, kind) for name in makers for size in _BATCH_SIZES for kind in ("idle", *_OBSERVED)]
    table = Table("backend", "batch", "observed", title="one training step, observed over bare")
    for heading in ("median", "quartiles"):
        table.add_column(heading, justify="right")
    for name, size, kind in track(cases, description="measuring"):
        bare = makers[name](size, nullcontext)
        observed = bare if kind == "idle" else makers[name](size, partial(observe, _OBSERVED[kind]))
        low, middle, high = _ratios(observed, bare)
        table.add_row(name, str(size), kind, f"{middle:.3f}", f"{low:.3f} to {high:.3f}")
    console = Console()
    console.print(table)
    console.print(f"Medians of {_PAIRS} pairs taken in turn, 32 bits. Measured with {describe_machine()}.")


def _ratios(observed: Step, bare: Step) -> tuple[float, float, float]:
    ratios = []
    for place in range(_PAIRS + 2):
        detach()
        seconds = _seconds(bare)
        attach()
        ratio = _seconds(observed) / seconds
        if place >= 2:  # by then everything is compiled and warm
            ratios.append(ratio)
    low, _, high = quantiles(ratios, n=4)
    return low, median(ratios), high


def _seconds(step: Step) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def _model(size: int) -> tuple[Mnist, dict[str, Any], Any]:
    problem, rng = Mnist(), np.random.default_rng(0)
    return problem, problem.parameters(rng), rng.uniform(0, 1, (size, 784))


def _with_penalty(loss: Any, seen: Observation | None) -> Any:
    return loss + seen.penalty if seen is not None and seen.weighted else loss


def _torch_step(size: int, block: Callable[[], Any]) -> Step:
    import torch

    from .torchdiffeq_solve import torchdiffeq_solve

    problem, weights, images = _model(size)
    setting = Setting(problem, (), _TOLERANCE, align=False, precision=32, seed=0)
    parameters = {name: torch.tensor(value, dtype=torch.float32, requires_grad=True) for name, value in weights.items()}
    y0 = torch.tensor(images, dtype=torch.float32)

    def step() -> Any:
        with block() as seen:
            states = torchdiffeq_solve(setting, parameters, y0)
        loss = (states[-1] ** 2).mean()
        used = [value for name, value in parameters.items() if not name.startswith("head")]
        return torch.autograd.grad(_with_penalty(loss, seen), used)

    return step


def _jax_step(size: int, block: Callable[[], Any]) -> Step:
    import diffrax
    import jax
    import jax.numpy as jnp

    problem, weights, images = _model(size)
    parameters = {name: jnp.asarray(value, jnp.float32) for name, value in weights.items()}
    y0 = jnp.asarray(images, jnp.float32)
    controller = diffrax.PIDController(rtol=_TOLERANCE, atol=_TOLERANCE)

    @jax.jit
    @jax.grad
    def gradient(parameters: Any) -> Any:
        term = diffrax.ODETerm(lambda t, y, _: problem.field(parameters, t, y))
        with block() as seen:
            solution: Any = diffrax.diffeqsolve(
                term, diffrax.Dopri5(), 0.0, 1.0, None, y0, stepsize_controller=controller, max_steps=256
            )
        loss = (solution.ys[-1] ** 2).mean()
        return _with_penalty(loss, seen)

    return lambda: jax.block_until_ready(gradient(parameters))  # type: ignore[no-untyped-call]  # jax's own


if __name__ == "__main__":
    main()
