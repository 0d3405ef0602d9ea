"""A hook of MkDocs: files of the repository that the pages link to become pages too.

The guides in docs/ link to `../configs/sample.yaml` and the like, which leads somewhere
on a disk and on a code host, but not on a site made of docs/ alone. For each such link
this adds a page `repository/configs/sample.yaml.md` that shows the file, and points the
link there. A link to a file that does not exist is left as it is, so that the strict
build stops at it.
"""

import json
import pathlib
import posixpath
import re
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = "repository"
LINK = re.compile(r"(?<=\]\()(?:\.\./)+[^)#\s]+(?=[)#])")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".md": "markdown", ".sh": "sh"}


def on_files(files: Files, config: Any) -> Files:
    """Adds a page for each file of the repository that a page links to."""
    linked = {
        path
        for file in files.documentation_pages()
        for link in LINK.findall(file.content_string)
        if (path := outside(file.src_uri, link))
    }
    for path in sorted(linked):
        files.append(
            File.generated(
                config,
                f"{FOLDER}/{path}.md",
                content=page_of(path),
                inclusion=InclusionLevel.NOT_IN_NAV,
            )
        )
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Points the links of a page to these pages."""
    source = page.file.src_uri

    def replacement(found: re.Match[str]) -> str:
        path = outside(source, found[0])
        if not path:
            return found[0]
        here = posixpath.dirname(source) or "."
        return posixpath.relpath(f"{FOLDER}/{path}.md", here)

    return LINK.sub(replacement, markdown)


def outside(source: str, link: str) -> str:
    """The repository's path of a file outside docs/ that a page links to, or ""."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(source), link))
    inside = path.startswith(("docs/", "../"))
    return path if not inside and (ROOT / path).is_file() else ""


def page_of(path: str) -> str:
    """A page that shows a file; a notebook cell by cell."""
    text = (ROOT / path).read_text()
    if path.endswith(".ipynb"):
        cells = json.loads(text)["cells"]
        return f"`{path}`\n\n" + "\n\n".join(map(cell, cells)) + "\n"
    title = f"# {posixpath.basename(path)}\n\n`{path}`\n\n"
    return title + fenced(text, LANGUAGES.get(posixpath.splitext(path)[1], "text"))


def cell(of_notebook: dict[str, Any]) -> str:
    """Markdown of a cell."""
    text = "".join(of_notebook["source"])
    return text if of_notebook["cell_type"] == "markdown" else fenced(text, "python")


def fenced(text: str, language: str) -> str:
    """A block of code, whatever fences the code itself has."""
    fence = "`" * max([3, *(len(each) + 1 for each in re.findall("`{3,}", text))])
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"
