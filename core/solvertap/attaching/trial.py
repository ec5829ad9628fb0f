"""How the library of an adapter solves a given problem, for `solvertap doctor` and for the conformance kit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

from array_api_compat import array_namespace

from ..steps.arrays import Array

if TYPE_CHECKING:
    import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])
Field = Callable[[Any, Array, Array], Array]


class Trial(ABC):
    """Solves y' = field(t, y, parameters) by the library of an adapter, with an adaptive method.

    The kit gives the field, a state of shape (2, 2), parameters of shape (4,), and the times, as arrays of the library.
    A field is written in operators and in functions of the array API; what it is called with is up to the library.

    Attributes:
        rtol, atol: the tolerances. With the first step size `first` the first attempt should be rejected.
        t0, t1: the interval of time.
        first: the first step size; some frameworks differentiate one that they choose themselves.
        reference: the adapter whose aligned solves are the same, for `Serves.align`; "" where no library has such.
        differentiates_steps: whether the library differentiates its step sizes, which are held under a term.
        calls_before: how often the library calls the field before it solves, to look at what it returns.
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    t0: float = 0.0
    t1: float = 1.0
    first: float = 0.5
    reference: str | None = None
    differentiates_steps: bool = False
    calls_before: int = 0

    def field(self, t: Any, y: Array, parameters: Array) -> Array:
        """The slope: nonlinear, with a kink in its forcing."""
        late = t - 0.5
        weights = parameters.reshape(2, 2)
        return 4 * array_namespace(y).tanh(y @ weights) + 10 * (late + abs(late)) - y

    @abstractmethod
    def solve(
        self, field: Field, parameters: Array, y0: Array, t0: Any, t1: Any, *, rtol: float, atol: float, first: Any
    ) -> Array:
        """The state at t1, by steps of the solver's own choice after the first.

        Args:
            field: maps (t, y, parameters) to the slope.
            parameters, y0: arrays of the library.
            t0, t1: numbers.
            rtol, atol: the tolerances.
            first: the size of the first step; None for the library's own.
        """

    @abstractmethod
    def one_step(
        self, field: Field, parameters: Array, y0: Array, t0: Any, t1: Any, *, rtol: float, atol: float
    ) -> Array:
        """The state at t1, by one step of the same method, which is kept whatever its error is."""

    @abstractmethod
    def array(self, values: np.ndarray[Any, Any]) -> Array:
        """An array of the library, of the dtype of these values."""

    @abstractmethod
    def differentiate(self, function: Callable[[Array], tuple[Array, Any]], parameters: Array) -> tuple[Array, Any]:
        """The gradient of the first result of `function(parameters)` by the library itself, and the second result."""

    def compiled(self, function: Function) -> Function:
        """The function, compiled where the library does that."""
        return function

    def mapped(self, function: Callable[[Array], Any], batch: Array) -> Any:
        """The results of a function over the first axis of an array, where the library maps (`vmap`)."""
        raise NotImplementedError

    def environment(self) -> AbstractContextManager[Any]:
        """A block in which float64, and the device, are switched on."""
        return nullcontext()

    def reveal(self, function: Callable[..., None], arrays: Sequence[Array]) -> None:
        """Calls a function with arrays as NumPy arrays: at once, or when a compiled program has run."""
        import numpy as np

        function(*[np.asarray(x) for x in arrays])

    def settle(self) -> None:
        """Returns when whatever was to be revealed has been."""
        return

    def own_counts(self) -> Mapping[str, int]:
        """What the library itself has counted of the last solve, by the names of `Stats`; empty where it does not."""
        return {}

    def solve_batch(
        self, field: Field, parameters: Array, y0: Array, t0: Array, t1: Array, *, rtol: float, atol: float, first: Any
    ) -> Array:
        """As `solve`, each sample by steps of its own: states of shape (samples, 2), times of shape (samples,)."""
        raise NotImplementedError

    def adjoint(
        self, field: Field, parameters: Array, y0: Array, t0: Any, t1: Any, *, rtol: float, atol: float, first: Any
    ) -> Array:
        """As `solve`, differentiated by a continuous adjoint."""
        raise NotImplementedError
