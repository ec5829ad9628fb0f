"""The backends of `solvertap compare`."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InvalidInputError, MissingExtraError, UnknownNameError
from ..plugins import plugins
from .problem import Problem
from .trainer import Arrays, MakeTrainer, Setting, Trainer


@dataclass(frozen=True)
class Backend:
    """A framework that solves, differentiates and optimises; named like the adapter that observes it."""

    name: str
    stochastic: tuple[bool, ...]
    make: MakeTrainer

    def is_installed(self) -> bool:
        """Whether its library is installed."""
        adapter = plugins().adapters.get(self.name)
        return adapter is not None and adapter.version() is not None


# Each imports its framework when it is called, so that the others need not be installed.
def _torchdiffeq(setting: Setting, parameters: Arrays) -> Trainer:
    from .torch_trainer import TorchTrainer
    from .torchdiffeq_solve import torchdiffeq_solve

    return TorchTrainer(setting, parameters, torchdiffeq_solve)


def _torchsde(setting: Setting, parameters: Arrays) -> Trainer:
    from .torch_trainer import TorchTrainer
    from .torchsde_solve import torchsde_solve

    return TorchTrainer(setting, parameters, torchsde_solve)


def _diffrax(setting: Setting, parameters: Arrays) -> Trainer:
    from .jax_trainer import JaxTrainer

    return JaxTrainer(setting, parameters)


BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("torchdiffeq", (False,), _torchdiffeq),
        Backend("torchsde", (True,), _torchsde),
        Backend("diffrax", (False, True), _diffrax),
    )
}


def choose_backends(names: list[str], problem: Problem) -> list[Backend]:
    """The named backends, or every installed one that can solve the problem.

    Raises:
        UnknownNameError: a name is none of them.
        InvalidInputError: a backend cannot solve the problem.
        MissingExtraError: a backend, or every one of them, is not installed.
    """
    able = [backend for backend in BACKENDS.values() if problem.stochastic in backend.stochastic]
    if not names:
        installed = [backend for backend in able if backend.is_installed()]
        if not installed:
            raise MissingExtraError.of(f"None of {', '.join(b.name for b in able)}", able[0].name)
        return installed
    chosen = []
    for name in dict.fromkeys(names):
        if name not in BACKENDS:
            raise UnknownNameError.of("backend", name, list(BACKENDS))
        if BACKENDS[name] not in able:
            raise InvalidInputError(
                f"The backend {name!r} does not solve {problem.name!r}; the choices are: "
                f"{', '.join(backend.name for backend in able)}."
            )
        if not BACKENDS[name].is_installed():
            raise MissingExtraError.of(name, name)
        chosen.append(BACKENDS[name])
    return chosen
