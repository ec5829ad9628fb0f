"""A solve whose error is shared among samples or parts."""

from __future__ import annotations

from ..errors import InvalidInputError
from ..steps.arrays import State
from ..steps.groups import Groups
from .framework import Framework


class Divided:
    """Among whom the error of each step is shared; see `Solve`."""

    adapter: Framework
    batch: int | None = None
    by: tuple[str, ...] = ()
    shared: bool = False
    groups: Groups | None = None

    def divide(self, like: State, shapes: tuple[tuple[int, ...], ...] = ()) -> None:
        """Divides a state among those who share its error, before the solve starts; nothing where none is `shared`.

        `open_solve` does it where it is given `like`, and `ride`. An adapter does it where a state is one vector that
        its library has made of the user's arrays, or where its traced loop has no ride.

        Args:
            like: a state of the solve.
            shapes: of the user's arrays, where `like` is one vector of them; empty otherwise.

        Raises:
            InvalidInputError: samples are asked for, and the state has none along its first axis.
        """
        if not self.shared:
            return
        if not self.by:
            self.groups = Groups.that_are_few(like, shapes, self.batch is not None)
            return
        try:
            self.groups = Groups.of(self.adapter.name, self.by, like, shapes, self.batch is not None)
        except InvalidInputError:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Marks the solve as failed."""
        raise NotImplementedError
