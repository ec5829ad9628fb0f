"""The backends of `solvertap compare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from solvertap.errors import InvalidInputError, MissingExtraError, UnknownNameError
from solvertap.plugins.registry import plugins

from ..problems.problem import Arrays, Problem
from .methods import Method
from .solvers import solvers
from .trainer import MakeTrainer, Setting, Trainer


@dataclass(frozen=True)
class Backend:
    """A framework that solves, differentiates and optimises; named like the adapter that observes it.

    Attributes:
        name: the name.
        make: makes a trainer.
        rivals: whether it trains rivals of the terms.
        asked: whether it trains only where it is named.
        takes_first_step: whether it can be told the size of the first step.
    """

    name: str
    make: MakeTrainer
    rivals: bool = False
    asked: bool = False
    takes_first_step: bool = True

    def trains(self, method: Method) -> bool:
        """Whether it can train with the method: a rival needs what not every framework has."""
        return self.rivals or method.rival is None

    def is_installed(self) -> bool:
        """Whether its library is installed."""
        adapter = plugins().adapters.get(self.name)
        return adapter is not None and adapter.version() is not None


# Each imports its framework when it is called, so that the others need not be installed.
def _torchdiffeq(setting: Setting, parameters: Arrays) -> Trainer:
    from .torch_trainer import TorchTrainer
    from .torchdiffeq_solve import torchdiffeq_solve

    return TorchTrainer(setting, parameters, torchdiffeq_solve)


def _torchode(setting: Setting, parameters: Arrays) -> Trainer:
    from .torch_trainer import TorchTrainer
    from .torchode_solve import torchode_solve

    return TorchTrainer(setting, parameters, torchode_solve)


def _torchdyn(setting: Setting, parameters: Arrays) -> Trainer:
    from .torch_trainer import TorchTrainer
    from .torchdyn_solve import torchdyn_solve

    return TorchTrainer(setting, parameters, torchdyn_solve)


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
        Backend("torchdiffeq", _torchdiffeq),
        Backend("torchsde", _torchsde),
        Backend("diffrax", _diffrax, rivals=True),
        Backend("torchode", _torchode, asked=True),
        Backend("torchdyn", _torchdyn, asked=True, takes_first_step=False),
    )
}


def choose_backends(
    names: list[str], problem: Problem, methods: Sequence[Method] = (), solver: str | None = None
) -> list[Backend]:
    """The named backends, or every installed one that can solve the problem and need not be asked for.

    Every named one must train every method. Where none is named, each method must be trained in one of them. All of
    them must have the solver.

    Raises:
        UnknownNameError: a name is none of them, or a backend lacks the solver.
        InvalidInputError: a backend cannot solve the problem, cannot train one of the methods, or cannot be told the
            first step that the problem has.
        MissingExtraError: a backend, or every one of those in question, is not installed.
    """
    chosen = _choose_for_problem(names, problem)
    for backend in chosen:
        _check_solve(backend, problem, solver)
    for method in methods:
        able = [backend.name for backend in BACKENDS.values() if backend.trains(method)]
        for backend in chosen if names else ():
            if not backend.trains(method):
                raise InvalidInputError(
                    f"`--method {method.name}` was asked of the backend {backend.name!r}, and only {', '.join(able)} "
                    f"trains it; name `--backend {able[0]}` alone, or leave `--backend` out."
                )
        if not any(backend.trains(method) for backend in chosen):
            raise MissingExtraError.of(f"{able[0]}, which alone trains {method.name!r},", able[0])
    return chosen


def _check_solve(backend: Backend, problem: Problem, solver: str | None) -> None:
    known = list(solvers(backend.name, problem))
    if solver is not None and solver not in known:
        remedy = "Name another `--solver`, or with `--backend` the one that has it."
        raise UnknownNameError.of(f"solver of {backend.name} for {problem.name!r}", solver, known, remedy)
    if problem.first_step is not None and not backend.takes_first_step:
        raise InvalidInputError(
            f"The first step is to be {problem.first_step:g}, and {backend.name} chooses it itself; leave "
            f"`--first-step` out, or name another `--backend`."
        )


def _choose_for_problem(names: list[str], problem: Problem) -> list[Backend]:
    able = [backend for backend in BACKENDS.values() if solvers(backend.name, problem)]
    if not names:
        installed = [backend for backend in able if backend.is_installed() and not backend.asked]
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
