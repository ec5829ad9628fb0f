"""Hooks of MkDocs: names with a star in the navigation of mkdocs.yml, and what the notebooks' pages need."""

import re
from pathlib import Path

PAGES = (".md", ".py")
TITLE = re.compile(r"^# # (.+)$", re.MULTILINE)
# MathJax and Mermaid, which a notebook's page would load from a network host; the tutorials have neither.
FOREIGN = re.compile(r'<script(?: src="about:blank"| type="(?:text/x-mathjax-config|module)")>.*?</script>', re.DOTALL)
LINK = re.compile(r'(href="(?!https?:)[^"#]+)\.(?:md|py)(?=["#])')


def _entry(path, docs):
    """A page of the navigation; of a notebook with its title, which MkDocs would make of its file's name."""
    name = path.relative_to(docs).as_posix()
    return {TITLE.search(path.read_text(encoding="utf-8"))[1]: name} if path.suffix == ".py" else name


def expanded(entries, docs):
    """The entries of a section, each pattern replaced by the pages that it matches; no section is empty."""
    for entry in entries:
        if isinstance(entry, str) and "*" in entry:
            found = (path for path in docs.glob(entry) if path.suffix in PAGES)
            # An index comes first, and is the page of its section.
            yield from (
                _entry(path, docs) for path in sorted(found, key=lambda path: (path.stem != "index", path.name))
            )
        elif isinstance(entry, dict):
            ((title, value),) = entry.items()
            inside = list(expanded(value, docs)) if isinstance(value, list) else value
            if inside:
                yield {title: inside}
        else:
            yield entry


def on_config(config):
    """Expands the navigation before MkDocs reads it."""
    config.nav = list(expanded(config.nav, Path(config.docs_dir)))
    return config


def on_page_content(html, page, **_):
    """Leads the links of a notebook to pages, as MkDocs does in Markdown, and loads nothing."""
    if not page.file.src_uri.endswith(".py"):
        return html
    return LINK.sub(r"\1.html", FOREIGN.sub("", html))
