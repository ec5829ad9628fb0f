"""Hooks of MkDocs: stars in the navigation of mkdocs.yml, pictures on a dark page, and the pages of the notebooks."""

import re
from pathlib import Path

PAGES = (".md", ".py")
TITLE = re.compile(r"^# # (.+)$", re.MULTILINE)
# MathJax and Mermaid, which a notebook's page would load from a network host; the tutorials have neither.
FOREIGN = re.compile(r'<script(?: src="about:blank"| type="(?:text/x-mathjax-config|module)")>.*?</script>', re.DOTALL)
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s#]+)\.(png|svg)\)")
HEADING = re.compile(r'<h[1-6] id="([^"]+)">(.*?)<a class="anchor-link"', re.DOTALL)
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


def on_page_markdown(markdown, page, config, **_):
    """Shows `name-dark.png` in the place of `name.png` on a dark page, where there is one."""
    folder = Path(config.docs_dir, page.file.src_uri).parent

    def both(found):
        text, name, kind = found.groups()
        if not (folder / f"{name}-dark.{kind}").is_file():
            return found[0]
        return f"![{text}]({name}.{kind}#only-light)![{text}]({name}-dark.{kind}#only-dark)"

    return PICTURE.sub(both, markdown)


def _all(links):
    """The entries of a table of contents in the order of the page."""
    for link in links:
        yield link
        yield from _all(link.children)


def on_page_content(html, page, **_):
    """Leads the links of a notebook to pages and headings, as MkDocs does in Markdown, and loads nothing."""
    if not page.file.src_uri.endswith(".py"):
        return html
    # mkdocs-jupyter 0.26 makes its table of contents of the headings without their code, and the headings with it.
    for link, (anchor, title) in zip(_all(page.toc), HEADING.findall(html), strict=True):
        link.id, link.title = anchor, re.sub("<.*?>", "", title)
    return LINK.sub(r"\1.html", FOREIGN.sub("", html))
