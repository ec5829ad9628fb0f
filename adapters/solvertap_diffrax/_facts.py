"""What is the same for every step of a solve of diffrax."""

from __future__ import annotations

from typing import Any

import jax

from solvertap.adapting import Facts
from solvertap_jax.structure import as_state

from ._method import stability_size, tableau
from ._prepared import tolerances


def facts(arguments: dict[str, Any]) -> Facts | None:
    """That of a call of `diffeqsolve`; None for a state without arrays."""
    if not jax.tree.leaves(arguments["y0"]):
        return None
    solver, given = arguments["solver"], tolerances(arguments["stepsize_controller"])
    method = tableau(solver, arguments["terms"])
    return Facts.make(as_state(arguments["y0"]), method, stability_size(solver), given["rtol"], given["atol"])
