"""Where training stands in torch, as named arrays: all that its next step depends on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from .torch_key import TorchKey

Arrays = dict[str, np.ndarray[Any, Any]]


def state_of(
    parameters: Mapping[str, torch.Tensor],
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    key: TorchKey,
) -> Arrays:
    """The parameters, what the optimiser has noted of each, the steps taken, and both random generators."""
    state = {
        "steps": np.asarray(schedule.last_epoch),
        "torch": torch.get_rng_state().numpy(),  # the Brownian paths of torchsde
        "key": key.state().numpy(),
    }
    for name, parameter in parameters.items():
        state[f"parameter/{name}"] = parameter.detach().numpy().copy()
        for what, value in optimiser.state[parameter].items():
            state[f"optimiser/{what}/{name}"] = value.numpy().copy()
    return state


def restore(
    state: Mapping[str, np.ndarray[Any, Any]],
    parameters: Mapping[str, torch.Tensor],
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    key: TorchKey,
) -> None:
    """Goes on from what `state_of` gave."""
    schedule.last_epoch = int(state["steps"])
    for group, rate in zip(optimiser.param_groups, schedule.base_lrs, strict=True):
        group["lr"] = rate * schedule.lr_lambdas[0](schedule.last_epoch)
    torch.set_rng_state(torch.from_numpy(state["torch"]))
    key.restore(torch.from_numpy(state["key"]))
    for path, value in state.items():
        kind, _, rest = path.partition("/")
        if kind == "parameter":
            parameters[rest].data.copy_(torch.from_numpy(value))
        elif kind == "optimiser":
            what, _, name = rest.partition("/")
            optimiser.state[parameters[name]][what] = torch.from_numpy(value)
