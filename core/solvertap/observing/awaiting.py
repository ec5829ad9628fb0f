"""Adapters are attached to libraries that are imported later, while somebody wants them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

from ..plugins.attachment import attach_to_imported
from ..plugins.registry import plugins

_awaited: set[str] = set()


def attach_when_imported(while_: Callable[[], object]) -> None:
    """Has the adapters attached to what is imported from now on, as long as `while_` gives something.

    The first one who asks says how long, for the whole process.
    """
    awaited = {adapter.module for adapter in plugins().adapters.values()} - sys.modules.keys() - _awaited
    if not awaited:
        return
    from wrapt import register_post_import_hook

    def attach_to(module: ModuleType) -> None:
        if while_() is not None:
            attach_to_imported(module)

    for module in awaited:
        register_post_import_hook(attach_to, module)
    _awaited.update(awaited)
