"""Rows of text as a table, on a terminal and in a document."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.table import Table


def terminal_table(
    title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = ()
) -> Table:
    """A table for a terminal, with a line between rows that begin differently.

    Args:
        title, headings, rows: its texts.
        right: the headings of the columns that stand to the right.
    """
    table = Table(title=title)
    for heading in headings:
        # Methods that differ in their weights alone must not be cut down to the same name.
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row, following in zip(rows, [*rows[1:], *rows[-1:]], strict=True):
        table.add_row(*row, end_section=row[0] != following[0])
    return table


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = ()) -> str:
    """The same as Markdown."""
    aligned = ["---:" if heading in right else "---" for heading in headings]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (headings, aligned, *rows))
