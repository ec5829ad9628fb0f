"""Writes docs/adapting.md: every name that an author of an adapter uses, with its arguments, from the code itself.

python -m tests.face_table            # write
python -m tests.face_table --check    # exit 1 if what is written differs from what would be
"""

import inspect
import re
from pathlib import Path

from solvertap import adapting
from tests import collecting

DOCUMENT = Path(__file__).parent.parent / "docs" / "adapting.md"
HEAD = """# What authors of adapters import

Written by `make docs` from the code; a test fails where it is not current. How the pieces are used is in
[Plugins](plugins.md#an-adapter-for-a-solver-of-your-own).
"""
# An author calls or writes the methods of these; of the others the constructor says all.
WITH_METHODS = ("Adapter", "ExtraStep", "Patches", "Ride", "Solve", "Stages", "Tableau", "Trial")
MADE_FOR_AUTHORS = ("ExtraStep", "Fold", "Patch", "Patches", "Ride", "Ridden", "Solve")  # they make none themselves


def arguments(value):
    """The arguments of a function, without types; empty where there are none."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    without = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    without = [each for each in without if each.name != "self"]
    return re.sub(r"<[^>]*>", "...", str(inspect.Signature(without)))


def sentence(value):
    """The first sentence of a docstring."""
    text = " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())
    return re.split(r"(?<=\.) (?=[A-Z`])", text)[0]


def rows():
    for name in adapting.__all__:
        value = getattr(adapting, name)
        if inspect.ismodule(value):
            yield f"`{name}`", "the exceptions, as in `solvertap.errors`"
            continue
        made = isinstance(value, type) and name in MADE_FOR_AUTHORS
        yield f"`{name}{'' if made else arguments(value)}`", sentence(value)
        if name in WITH_METHODS:
            for method, member in inspect.getmembers(value):
                if not method.startswith("_") and sentence(member) and not isinstance(member, type | str | int | float):
                    written = arguments(member) if callable(member) else ""
                    yield f"`{name}.{method}{written}`", sentence(member)


def document():
    lines = [f"| {name.replace('|', chr(92) + '|')} | {what.replace('|', chr(92) + '|')} |" for name, what in rows()]
    return "\n".join([HEAD, "| name | what it is |", "|---|---|", *lines]) + "\n"


if __name__ == "__main__":
    collecting.write_or_check(DOCUMENT, document())
