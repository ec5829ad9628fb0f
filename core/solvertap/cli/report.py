"""The report of `solvertap explain --report`: one file with its pictures in it, to be opened in a browser.

The pictures are matplotlib's SVG, not a program in the page: they need no network, are sharp at every width, and there
is nothing in the page that could fail.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from ..explaining.figure import draw_anatomy, draw_course, draw_shares
from ..explaining.places import NUMBERS, UNSEEN, Explanation

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 0 auto; padding: 1rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { text-align: left; padding: .3rem .8rem; border-bottom: 1px solid #8885; white-space: nowrap; }
td.number, th.number { text-align: right; }
section { margin-top: 2.5rem; }
figure { margin: 1rem 0; background: white; overflow-x: auto; }
figure svg { width: 100%; min-width: 40rem; height: auto; display: block; }
figcaption { color: #555; padding: .3rem .8rem; }
.verdict { border-left: .3rem solid #d55e00; padding: .1rem 1rem; }
.healthy { border-left: .3rem solid #009e73; padding: .1rem 1rem; }
"""


def report(explanations: Sequence[Explanation], title: str) -> str:
    """The report as HTML.

    Args:
        explanations: of every place.
        title: what was run.
    """
    sections = [_section(number, each) for number, each in enumerate(explanations)]
    empty = "" if explanations else f"<p>{UNSEEN}</p>"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>What limits the steps of {escape(title)}</h1>{empty}{_table(explanations)}{''.join(sections)}"
        "</body></html>\n"
    )


def write_report(path: Path, explanations: Sequence[Explanation], title: str) -> None:
    """Writes the report."""
    path.write_text(report(explanations, title), encoding="utf-8")


def _table(explanations: Sequence[Explanation]) -> str:
    if not explanations:
        return ""
    rows = "".join(
        f'<tr><td><a href="#place-{number}">{escape(each.place.place)}</a></td><td>{escape(each.solver)}</td>'
        + "".join(f'<td class="number">{cell}</td>' for cell in each.numbers)
        + f"<td>{escape(each.limits)}</td></tr>"
        for number, each in enumerate(explanations)
    )
    heads = "".join(f'<th class="number">{x}</th>' for x in NUMBERS)
    return f"<table><tr><th>at</th><th>solver</th>{heads}<th>limited by</th></tr>{rows}</table>"


def _section(number: int, explanation: Explanation) -> str:
    solves = {
        f"{name}, {anatomy.length} attempts": anatomy
        for name, anatomy in (
            ("typical", explanation.typical),
            ("first", explanation.first),
            ("the most", explanation.worst),
        )
    }
    if explanation.solves == 1:
        solves = dict([next(iter(solves.items()))])
    found = "".join(f'<p class="verdict">{_with_code(line)}</p>' for line in explanation.findings())
    nothing = f'<p class="healthy">{explanation.without_findings}</p>'
    course = ""
    if len(explanation.course) > 1:
        course = _figure(
            draw_course(explanation.course, explanation.solves), "Evaluations of a solve, in the order of the run."
        )
    drawn = draw_shares(solves)
    shares = "" if drawn is None else _figure(drawn, "Whose error it is. At the line all have the same share.")
    return (
        f'<section id="place-{number}"><h2>{escape(explanation.place.place)}, {escape(explanation.solver)}</h2>'
        + (found or nothing)
        + course
        + _figure(draw_anatomy(solves), "Steps along the solve. Hollow: rejected. At E = 1 an attempt is rejected.")
        + shares
        + "</section>"
    )


def _with_code(line: str) -> str:
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(line))


def _figure(figure: Figure, caption: str) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return f"<figure>{svg[svg.index('<svg') :]}<figcaption>{escape(caption)}</figcaption></figure>"
