"""The training steps of torchdiffeq, torchode and torchsde."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ..training.trainer import Setting
from .cases import Case
from .memory import most_held
from .step import Block, Step, with_penalty


def torch_step(case: Case, block: Block) -> Step:
    """The training step of a case inside a block: one solve, forwards and backwards."""
    solve = _solve(case)
    weights, state = case.model()
    setting = Setting(case.problem, (), case.tolerance, align=False, precision=case.problem.precision, seed=0)
    parameters = {name: torch.tensor(value).requires_grad_() for name, value in weights.items()}
    used = [value for name, value in parameters.items() if not name.startswith("head")]
    y0 = torch.tensor(state)

    def loss() -> Any:
        torch.manual_seed(0)  # the Brownian path of an SDE
        with block() as seen:
            states = solve(setting, parameters, y0)
        return with_penalty((states[-1] ** 2).mean(), seen)

    def run() -> Any:
        return torch.autograd.grad(loss(), used)

    run()  # what is made once is not of the step
    return Step(run, 0.0, most_held(run))


def _solve(case: Case) -> Callable[..., Any]:
    options: dict[str, Any]
    # Each may be missing where another is measured.
    if case.backend == "torchode":
        from ..training.torchode_solve import torchode_solve

        return partial(torchode_solve, first_step=case.first_step)
    if case.backend == "torchsde":
        from ..training.torchsde_solve import torchsde_solve

        return partial(torchsde_solve, first_step=case.first_step, adjoint=case.adjoint)
    from ..training.torchdiffeq_solve import torchdiffeq_solve

    options = {"max_step": None if case.steps is None else 1 / case.steps, "first_step": case.first_step}
    options = {name: x for name, x in options.items() if x is not None}
    return partial(torchdiffeq_solve, options=options, adjoint=case.adjoint)
