"""Comments of parameters, read from Google-style docstrings."""

import inspect
import re
from collections.abc import Iterable

SECTIONS = ("Attributes:", "Args:")
ENTRY = re.compile(r"    (\w+): (.*)")


def parameter_comments(docstrings: Iterable[str]) -> dict[str, str]:
    """Return the text of each entry under `Attributes:` and `Args:`, one line each; later docstrings win."""
    comments: dict[str, str] = {}
    for text in docstrings:
        inside, name = False, ""
        for line in inspect.cleandoc(text).splitlines():
            if not line.startswith(" ") and line:
                inside, name = line in SECTIONS, ""
            elif inside and (entry := ENTRY.fullmatch(line)):
                name = entry[1]
                comments[name] = entry[2]
            elif inside and name and line.strip():
                comments[name] += f" {line.strip()}"
    return comments
