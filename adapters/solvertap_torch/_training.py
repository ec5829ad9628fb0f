"""Which backward pass is a training pass, and so carries a penalty.

A training pass builds no graph (no `create_graph`) and accumulates (`backward`, not `autograd.grad`) into a leaf that
the penalty depends on and an optimiser holds. If the penalty depends on the leaf through the initial state alone, the
leaf may be an input that is being optimised, so it must be a `Parameter`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from solvertap.adapting import Injection

from . import _optimisers
from ._flat import flat


class Carrier:
    """The penalty of one solve until a backward pass has carried it, with the weights of its values."""

    def __init__(self, injection: Injection, weights: Sequence[Any], values: Sequence[Any]) -> None:
        self.weights = weights
        start = () if injection.start is None else flat(injection.start)
        self._injection = replace(injection, values=(), start=None)  # no cycle: a graph holds this object
        self._carried = False
        self.values: Sequence[Any] = ()  # for a budget; their graph leads away from the node that holds this object
        self._leaves = _Leaves([x.grad_fn for x in values if x.grad_fn is not None], start)

    def carries(self) -> bool:
        """Whether the running backward pass carries the penalty: the first that trains, or any under `passes="all"`."""
        if self._injection.by.measuring:  # of another penalty, which depends on what this solve has found
            return False
        trains = self._injection.by.passes == "all" or (not self._carried and self._trains())
        self._carried |= trains
        self._injection.carried(trains=trains)
        return trains

    def leaves(self) -> Iterator[Any]:
        """The leaves that the penalty depends on."""
        return (x for _, x, _ in self._leaves)

    def _trains(self) -> bool:
        if torch.is_grad_enabled():  # torch's engine enables it only under `create_graph`
            return False
        held = _optimisers.held(self._injection.by.optimiser)
        return any(held(x) and (ours or _is_parameter(x)) and _accumulates(node) for node, x, ours in self._leaves)


class _Leaves:
    """The leaves of a graph, searched lazily and cached: (node, tensor, whether the field depends on it)."""

    def __init__(self, roots: Sequence[Any], start: Sequence[Any]) -> None:
        self._found: list[tuple[Any, Any, bool]] = []
        self._rest = _walk(roots, start)

    def __iter__(self) -> Iterator[tuple[Any, Any, bool]]:
        yield from self._found
        for leaf in self._rest:
            self._found.append(leaf)
            yield leaf


def _walk(roots: Sequence[Any], start: Sequence[Any]) -> Iterator[tuple[Any, Any, bool]]:
    """The leaves of the field first, then those of the initial state."""
    before = {x.grad_fn for x in start if x.grad_fn is not None}
    leaves = [x for x in start if x.grad_fn is None]
    seen: set[Any] = set(before)
    for waiting, ours in ((list(roots), True), (list(before), False)):
        while waiting:
            node = waiting.pop()
            variable = getattr(node, "variable", None)
            if variable is not None:
                yield node, variable, ours and not any(variable is x for x in leaves)
            following = [each for each, _ in node.next_functions if each is not None and each not in seen]
            seen.update(following)
            waiting += following


def _accumulates(leaf: Any) -> bool:
    """Whether the running pass accumulates into this leaf."""
    try:
        will: bool = torch._C._will_engine_execute_node(leaf)  # as torch's own hooks do
    except RuntimeError:  # raised for a leaf whose gradient `autograd.grad` returns
        return False
    return will


def _is_parameter(x: Any) -> bool:
    return isinstance(x, torch.nn.Parameter)
