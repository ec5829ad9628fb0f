"""What is the same for every step of a solve, as numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

from array_api_compat import array_namespace, is_torch_array

from .arrays import Array, State, epsilon, parts
from .step import Step
from .tableau import Tableau


class Facts(NamedTuple):
    """What is the same for every step of a solve; None is what is not known, or not before a program runs.

    Attributes:
        error_order: the power of h with which E falls on a smooth field.
        stability_size: as of `Step`.
        rtol, atol: the tolerances, as the step has them; `known` makes them numbers.
        rounding: by how much a number of size one in the state is rounded at most.
        dtype: of the state, as "float32".
    """

    error_order: int | None = None
    stability_size: float | None = None
    rtol: Any = None
    atol: Any = None
    rounding: float | None = None
    dtype: str = ""

    def known(self) -> Facts:
        """The same with the tolerances as numbers."""
        return self._replace(rtol=_number(self.rtol), atol=_number(self.atol))

    @classmethod
    def of(cls, step: Step) -> Facts:
        """Those of a step."""
        tableau = None if step.stages is None else step.stages.tableau
        return cls.make(step.y1, tableau, step.stability_size, step.rtol, step.atol)

    @classmethod
    def make(
        cls,
        like: State,
        tableau: Tableau | None,
        stability_size: float | None,
        rtol: Array | None,
        atol: Array | None,
    ) -> Facts:
        """Those of a solve whose steps are traced, from a state, its method and its tolerances."""
        first = parts(like)[0]
        return cls(
            error_order=None if tableau is None else tableau.error_order,
            stability_size=stability_size,
            rtol=_held(rtol),
            atol=_held(atol),
            rounding=epsilon(array_namespace(first), first.dtype) / 2,
            dtype=str(first.dtype).removeprefix("torch."),
        )


def _held(x: Any) -> Any:
    # A tensor is read when somebody asks: a step must not wait for a device.
    return x if is_torch_array(x) else _number(x)


def _number(x: Any) -> float | None:
    """The largest of the entries, as there may be one for each component; None for what is being traced."""
    if x is None or isinstance(x, int | float):
        return x
    try:
        return float(x.max()) if hasattr(x, "max") else float(x)
    except Exception:  # each framework has an exception of its own for a traced value
        return None
