"""The code blocks of the README and the documentation, and what stands above each of them.

A comment of HTML on the line above a block says how it is tested:

    <!-- given: NAME -->        executed, after what NAME has in tests/docs_given.py
    <!-- run by: test_x.py -->  executed by that test, which reads the document
    <!-- fragment: REASON -->   not executed; the commands in it are looked up
"""

import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?P<above>[^\n]*)\n(?P<by> *)```(?P<language>\S*)\n(?P<text>.*?)^(?P=by)```$", re.M | re.S)
COMMENT = re.compile(r"<!-- (given|run by|fragment): (.+) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        place: document and line.
        language: of its fence.
        text: what is in it.
        kind: "given", "run by" or "fragment"; empty where no comment stands above it.
        what: the rest of the comment.
    """

    place: str
    language: str
    text: str
    kind: str
    what: str

    @property
    def commands(self):
        """The commands of a shell block, continued lines joined."""
        return [line for line in self.text.replace("\\\n", " ").splitlines() if line.split("#")[0].strip()]


def blocks():
    """Every fenced block of every document."""
    found = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            comment = COMMENT.search(match["above"])
            line = text[: match.end("above")].count("\n") + 2
            place = f"{document.relative_to(ROOT)}:{line}"
            kind, what = comment.groups() if comment else ("", "")
            found.append(Block(place, match["language"], dedent(match["text"]), kind, what))
    return found
