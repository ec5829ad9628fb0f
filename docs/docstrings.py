"""An extension of Griffe: arguments that a docstring describes together, as in "rtol, atol: ...", stay together."""

import re
from typing import Any

import griffe

TOGETHER = re.compile(r"^( *)([a-z]\w*(?:, [a-z]\w*)+)(?=: )", re.MULTILINE)


class Together(griffe.Extension):
    """Joins the names by spaces that do not break; Griffe would read the second name as the type of the first."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called with every module, class, function and attribute."""
        if obj.docstring is not None:
            text = obj.docstring.value
            obj.docstring.value = TOGETHER.sub(
                lambda found: found[1] + found[2].replace(", ", ",\N{NO-BREAK SPACE}"), text
            )
