"""The class that one subclasses to observe a solver."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import metadata
from typing import ClassVar

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ..solves.framework import Framework
from .patches import Patches
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
        checkpoints: whether it obeys `Solve.checkpoint`.
        injects: whether it returns what `Solve.through` gives, and so serves `regularize`.
        aligns: whether it takes the reference steps where `Solve.align` is set.
        samples: whether it calls `ExtraStep.begin` if a solve has an `extra_step`, and so serves `LocalSample`.
    """

    module: ClassVar[str]
    distribution: ClassVar[str | None] = None
    tested: ClassVar[str] = ""
    checkpoints: ClassVar[bool] = False
    aligns: ClassVar[bool] = False
    injects: ClassVar[bool] = False
    samples: ClassVar[bool] = False

    @abstractmethod
    def attach(self, patches: Patches) -> None:
        """Places the taps, all of them through `patches`. It may import the library: the user already has."""

    def trial(self, device: str | None = None) -> Trial | None:  # noqa: ARG002  # the default solves nothing
        """A small problem on which `solvertap doctor` checks the adapter; with None it checks only the patches.

        Args:
            device: where to solve, by the framework's name for it; None for its default.
        """
        return None

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
