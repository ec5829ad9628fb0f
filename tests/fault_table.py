"""Writes docs/faults.md from the tests themselves: what each of them is marked to hold.

python -m tests.fault_table            # write
python -m tests.fault_table --check    # exit 1 if what is written differs from what would be
"""

from pathlib import Path

from tests import collecting

DOCUMENT = Path(__file__).parent.parent / "docs" / "faults.md"


def rows():
    """(what, what happens, the test), one of each."""
    found = {}
    for _, (what, happens), test in collecting.collect("fault"):
        found.setdefault((what, happens), test.removeprefix("tests/").split("[")[0])
    return [(what, happens, test) for (what, happens), test in found.items()]


def document():
    """The whole of docs/faults.md."""
    return "\n".join(
        [
            "# What happens when",
            "",
            "Written by `make docs` from the marks of the tests; a test fails where it is not current.",
            "",
            "| fault, or what looks like one | what happens | the test that holds it |",
            "|---|---|---|",
            *(f"| {what} | {happens} | `{test}` |" for what, happens, test in rows()),
            "",
        ]
    )


if __name__ == "__main__":
    collecting.write_or_check(DOCUMENT, document())
