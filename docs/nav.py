"""A hook of MkDocs: a name with a star in the navigation of mkdocs.yml stands for the pages that are there."""

from pathlib import Path

PAGES = (".md", ".py")


def expanded(entries, docs):
    """The entries of a section, each pattern replaced by the pages that it matches; no section is empty."""
    for entry in entries:
        if isinstance(entry, str) and "*" in entry:
            found = (path for path in docs.glob(entry) if path.suffix in PAGES)
            # An index comes first, and is the page of its section.
            yield from sorted(
                (str(path.relative_to(docs)) for path in found), key=lambda name: ("index" not in name, name)
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
