"""Libraries that solve differential equations inside torch or JAX, and have no adapter."""

from __future__ import annotations

import sys
import warnings
from importlib import metadata
from typing import NamedTuple

from ..plugins.registry import plugins


class Library(NamedTuple):
    """A solver library.

    Attributes:
        module: the import name that says that it is in use.
        distribution: the name under which it is installed.
    """

    module: str
    distribution: str

    @property
    def version(self) -> str | None:
        """The installed version, None where there is none."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None


KNOWN = (
    Library("jax.experimental.ode", "jax"),
    Library("probdiffeq", "probdiffeq"),
    Library("tinydiffeq", "tinydiffeq"),
    Library("TorchDiffEqPack", "torchdiffeqpack"),
    Library("torchdde", "torchdde"),
    Library("torchdyn.numerics", "torchdyn"),
    Library("torchode", "torchode"),
    Library("xitorch.integrate", "xitorch"),
)
_COPIED = {"torchdiffeq": "odeint", "torchsde": "sdeint", "diffrax": "diffeqsolve"}  # other code brings copies of these

_said: set[str] = set()


def unadapted() -> tuple[Library, ...]:
    """The known libraries that no adapter has been written for here."""
    adapted = {adapter.module for adapter in plugins().adapters.values()}
    return tuple(library for library in KNOWN if library.module not in adapted)


def imported() -> list[str]:
    """The modules in use that solve without an adapter: known libraries, and copies of those that have one."""
    adapted = {adapter.module for adapter in plugins().adapters.values()}
    known = [library.module for library in unadapted() if library.module in sys.modules]
    return known + [name for name in tuple(sys.modules) if name not in adapted and _is_copy(name)]


def sentences() -> list[str]:
    """One for each of those modules: what is wrong, and what to do."""
    return [_sentence(name) for name in imported()]


def unsaid() -> list[str]:
    """The sentences that this function has not given in this process."""
    new = [name for name in imported() if name not in _said]
    _said.update(new)
    return [_sentence(name) for name in new]


def warn_of_unadapted() -> None:
    """Warns, once in a process, that a block saw no solve and a library without an adapter is in use."""
    for each in unsaid():
        warnings.warn(f"`regularize` saw no solve. {each}", RuntimeWarning, stacklevel=4)


def _is_copy(name: str) -> bool:
    _, dot, last = name.rpartition(".")
    if not dot or last not in _COPIED:
        return False
    function = vars(sys.modules[name]).get(_COPIED[last])
    return str(getattr(function, "__module__", "")).startswith(name)


def _sentence(name: str) -> str:
    return (
        f"`{name}` has been imported, and no adapter is written for it, so its solves are not seen. Write "
        "one, as docs/plugins.md says, or solve by a library of `solvertap adapters`."
    )
