"""Rows of text as a table, on a terminal and in a document."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions
from rich.table import Table

_FRAME = 3  # columns of a terminal that a column of a table takes beside its text: a line, and a space on either side


@dataclass(frozen=True)
class TerminalTable:
    """A table for a terminal, with a line between rows that begin differently.

    Where it is wider than the terminal it becomes several, one below the other, each with the first columns again: no
    word and no number is broken.

    Attributes:
        title, headings, rows: its texts.
        right: the headings of the columns that stand to the right.
        named: how many columns say what a row is of.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Collection[str] = ()
    named: int = 2

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:  # as rich calls it
        title = self.title
        for columns in self._balanced(options.max_width):
            whole = [max(len(self.headings[each]), self._needed(each)) for each in columns]
            fits = _width(whole) <= options.max_width
            yield self._table(title, dict(zip(columns, whole if fits else map(self._needed, columns), strict=True)))
            title = ""

    def _balanced(self, width: int) -> list[list[int]]:
        """The columns of each table: as few tables as the width allows, all about as wide."""
        groups = self._groups(width)
        for narrower in range(width - 1, 0, -1):
            tried = self._groups(narrower)
            if len(tried) > len(groups):
                break
            groups = tried
        return groups

    def _groups(self, width: int) -> list[list[int]]:
        first, groups = list(range(self.named)), list[list[int]]()
        for column in range(self.named, len(self.headings)):
            if not groups or _width([self._needed(each) for each in (*groups[-1], column)]) > width:
                groups.append(first.copy())
            groups[-1].append(column)
        return groups or [first]

    def _needed(self, column: int) -> int:
        # A heading may be broken between its words, a cell nowhere.
        return max(map(len, self.headings[column].split() + [row[column] for row in self.rows]))

    def _table(self, title: str, widths: dict[int, int]) -> Table:
        table = Table(title=title or None)
        for column, width in widths.items():
            heading = self.headings[column]
            # Methods that differ in their weights alone must not be cut down to the same name.
            table.add_column(
                heading, width=width, overflow="fold", justify="right" if heading in self.right else "left"
            )
        for row, following in zip(self.rows, [*self.rows[1:], *self.rows[-1:]], strict=True):
            table.add_row(*(row[column] for column in widths), end_section=row[0] != following[0])
        return table


def _width(columns: Sequence[int]) -> int:
    return 1 + sum(_FRAME + each for each in columns)


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = ()) -> str:
    """The same as Markdown."""
    aligned = ["---:" if heading in right else "---" for heading in headings]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (headings, aligned, *rows))
