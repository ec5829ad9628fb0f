"""How far a training with `regularize` has come: its optimiser steps, and which backward passes carried a penalty."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from ..plugins.forking import Lock


class Progress:
    """Counts optimiser steps and backward passes, from whatever thread tells of them.

    Attributes:
        k: the optimiser steps so far.
        backward_passes: how many there were through a solve with a penalty, by whether they "carried" it or were "left"
            alone. Of those that JAX leaves alone nothing is known.
        measuring: whether what goes back now only measures the gradient of the penalty, and is not counted.
    """

    def __init__(self) -> None:
        self.k: int = 0
        self.backward_passes: dict[str, int] = {"carried": 0, "left": 0}
        self.measuring = False
        self._lock = Lock()
        self._optimisers: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self._sites: set[int] = set()
        self._places: dict[str, list[int]] = {}  # of each the solves with a penalty, and how often one was carried

    def optimiser_stepped(self, optimiser: Any) -> None:
        """Says that an optimiser made a step."""
        with self._lock():
            self._optimisers[optimiser] = self._optimisers.get(optimiser, 0) + 1
            self.k = max(self.k, self._optimisers[optimiser])

    @property
    def untrained(self) -> dict[str, int]:
        """Where solves with a penalty stand that no backward pass has carried, as "train.py:42", and how many."""
        return {place: solves for place, (solves, carried) in self._places.items() if not carried}

    def differentiated(self, place: str) -> None:
        """Says that gradients are recorded in a solve with a penalty, which stands there in the caller's code."""
        with self._lock():
            self._places.setdefault(place, [0, 0])[0] += 1

    def passed(self, place: str, *, carried: bool) -> None:
        """Says that a backward pass has come to a solve with a penalty, and whether it carried that."""
        if self.measuring:
            return
        with self._lock():
            self.backward_passes["carried" if carried else "left"] += 1
            self._places.setdefault(place, [0, 0])[1] += carried

    def passed_backward(self, site: int) -> None:
        """Says that a compiled program went back through a solve; k is counted where the same one comes again."""
        if self.measuring:
            return
        with self._lock():
            if site in self._sites:
                self.k += 1
                self._sites.clear()
            self._sites.add(site)
