"""What somebody writes to have a solver observed."""

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
    """Teaches solvertap one solver library: where its steps can be seen, and nothing about what to do with them.

    An adapter translates and never computes. `attach` is called once, when an observation opens and `module`
    has been imported; from then on the adapter calls `open_solve(self)` where a solve begins and, unless that
    returns None, hands each attempted step to the `Solve` it got. docs/plugins.md has the whole recipe.

    Attributes:
        name: what the adapter is called in `solvertap adapters`, unique.
        module: the import name whose presence in `sys.modules` says that the library is in use.
        distribution: the name under which it is installed; None for code that has no distribution.
        tested: the versions the adapter was tested with (PEP 440); outside it there is a warning.
        counts_are_numbers: whether the counts of a solve are numbers that nothing traces, so that statistics may
            be kept of a solve that is transformed inside the block.
        checkpoints: whether it honours `Solve.checkpoint`.
        injects: whether it returns what `Solve.through` gives, and so serves `regularize`.
        aligns: whether it takes the reference steps where `Solve.align` asks for them.
        samples: whether it calls `ExtraStep.begin` where a solve has a `sampling`, and so serves `LocalSample`.
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
        """Places the taps, all of them through `patches`. May import the library: the user has done so."""

    def trial(self, device: str | None = None) -> Trial | None:  # noqa: ARG002  # the default solves nothing
        """A small problem on which `solvertap doctor` checks the adapter; None: only its patches are checked.

        Args:
            device: where to solve, in the framework's own words; None for its default.
        """
        return None

    def version(self) -> str | None:
        """The installed version of the library; None where it is not installed or has no distribution."""
        if self.distribution is None:
            return None
        try:
            # Not `find_spec`: a folder of that name on the path would answer for a library that is not there.
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None

    def is_tested(self) -> bool | None:
        """Whether the installed version is inside `tested`; None where nothing is installed."""
        version = self.version()
        return None if version is None else SpecifierSet(self.tested).contains(Version(version), prereleases=True)
