"""The class that one subclasses to observe a solver."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import metadata
from typing import Any, ClassVar

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ..solves.framework import Framework
from ..solves.scope import current
from ..solves.within import Current
from .patches import Patches
from .serves import Serves
from .trial import Trial


class Adapter(Framework, ABC):
    """Says where the steps of one solver library can be seen, and nothing about what to do with them.

    An adapter translates and never computes. solvertap calls `attach` once, when an observation opens and `module`
    has been imported. From then on the adapter calls `open_solve(self)` where a solve begins. Unless that returns
    None, the adapter passes each attempted step to the returned `Solve`. docs/plugins.md has the whole recipe.

    Attributes:
        name: its unique name, as `solvertap adapters` prints it.
        module: the import name whose presence in `sys.modules` says that the library is in use.
        distribution: the name of its package; None for code that is in no package.
        tested: the versions the adapter was tested with (PEP 440); any other gives a warning.
        counts_are_numbers: whether the counts of a solve are plain numbers, never traced values, so that a block
            has the statistics also of a solve that is transformed inside it.
        serves: what it serves beyond counts.
    """

    module: ClassVar[str]
    distribution: ClassVar[str | None] = None
    tested: ClassVar[str] = ""
    serves: ClassVar[Serves] = Serves()

    @abstractmethod
    def attach(self, patches: Patches) -> None:
        """Places the taps, all of them through `patches`. It may import the library: the user already has."""

    def trial(self, device: str | None = None) -> Trial | None:  # noqa: ARG002  # the default solves nothing
        """A small problem on which `solvertap doctor` checks the adapter; with None it checks only the patches.

        Args:
            device: where to solve, by the framework's name for it; None for its default.
        """
        return None

    def current(self, solve: Any) -> Current:
        """A block in which `running` gives this solve, in this thread or task: for taps on what the solver calls.

        Enter it by `adapter.current(solve).call(function, ...)` where you can, else by `with`, which an interrupt may
        leave open. A field evaluated `unobserved` is outside of it.

        Args:
            solve: the `Solve`, or an object of the adapter's own that holds it and whatever belongs to the call.
        """
        return Current(self.name, solve)

    def running(self) -> Any:
        """What the innermost `current` block of this adapter was given; None outside of one."""
        return next((solve for name, solve in current().running if name == self.name), None)

    def version(self) -> str | None:
        """The installed version of the library; None if it is not installed or has no distribution."""
        if self.distribution is None:
            return None
        try:
            # Not `find_spec`: it would also find a mere folder of that name on the path.
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None

    def is_tested(self) -> bool | None:
        """Whether the installed version is in `tested`; None if `version` is None."""
        version = self.version()
        return None if version is None else SpecifierSet(self.tested).contains(Version(version), prereleases=True)
