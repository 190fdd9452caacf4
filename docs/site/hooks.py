"""MkDocs hooks: pages include sections of other files, and the configuration reference is read from the signatures.

- `<!-- include README.md: Quick start -->` becomes the text below that heading;
- `<!-- include README.md -->` the text between the title and the first heading of level 2;
- `<!-- include FILE.py -->` a code block;
- `<!-- configuration -->` the tables of `configuration.py`.
"""

import os
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from configuration import configuration

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"CONTRIBUTING.md": "docs/contributing.md", "README.md": "docs/index.md", "CHANGELOG.md": "docs/changelog.md"}
"""Files outside `docs/` that a page includes, so that links to them lead to that page."""
INCLUDE = re.compile(r"^<!-- include ([\w./-]+)(?:: (.+))? -->$", re.MULTILINE)
LINK = re.compile(r"(!?)\[([^\]]+)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Return the config with a page for each decision under Development."""
    decisions = [f"decisions/{path.name}" for path in sorted((ROOT / "docs" / "decisions").glob("*.md"))]
    config["nav"][-1]["Development"].append({"Decisions": decisions})
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the page with its includes; links within the repository lead to the site's pages."""
    source = ROOT / "docs" / page.file.src_uri
    markdown = with_links(markdown, source, source)
    markdown = INCLUDE.sub(lambda match: included(match[1], match[2], source), markdown)
    return markdown.replace("<!-- configuration -->", configuration())


def included(name: str, heading: str | None, page: Path) -> str:
    """Return a file, or the section of a file, with its links as seen from the page."""
    text = (ROOT / name).read_text()
    if name.endswith(".py"):
        return f'```python title="{name}"\n{text.rstrip()}\n```'
    text = section(text, heading) if heading else text.partition("\n## ")[0].partition("\n")[2].strip()
    return with_links(text, ROOT / name, page)


def section(text: str, heading: str) -> str:
    """Return what is below a heading, up to the next one of the same or a higher level.

    Raises:
        ValueError: if there is no such heading.
    """
    found = re.search(rf"^(#+) {re.escape(heading)}\n", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"no heading {heading!r}")
    rest, fenced, lines = text[found.end() :], False, []
    for line in rest.splitlines():
        fenced ^= line.startswith("```")
        if not fenced and re.match(rf"#{{1,{len(found[1])}}} ", line):
            break
        lines.append(line)
    return "\n".join(lines).strip()


def with_links(text: str, source: Path, page: Path) -> str:
    """Return a text of `source` for a page: links to other pages are relative to it, others become their text."""

    def replaced(match: re.Match[str]) -> str:
        target = (source.parent / match[3]).resolve().relative_to(ROOT)
        path = ROOT / PAGES.get(str(target), str(target))
        if path.is_dir() and (path / "README.md").is_file():
            path /= "README.md"
        if path.is_dir() or path.suffix in (".csv", ".tex") or ROOT / "docs" not in path.parents:
            return match[2]
        return f"{match[1]}[{match[2]}]({os.path.relpath(path, page.parent)}{match[4] or ''})"

    return LINK.sub(replaced, text)
