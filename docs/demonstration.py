"""A hook of MkDocs: the front page is the page that finds cats, where one was exported.

`nox -s site` exports `models/cats` with `--formats web` and names the folder in the
variable DEMONSTRATION. Without it the front page shows a picture.
"""

import os
import pathlib
import re
import shutil
from typing import Any

FOLDER = "demonstration"
PICTURE = re.compile(r"^!\[[^\]]*\]\(found\.png\)\n\n\*.*?\*\n", re.M | re.S)
FRAME = f"""<iframe class="demonstration" src="{FOLDER}/index.html"
  title="Find the cat in a photo of yours" allow="camera"></iframe>

*Try it: the network runs in this page, and no photo leaves your computer.
<a href="{FOLDER}/index.html">On a page of its own</a>.*
"""


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Puts the demonstration in the place of the first picture of the front page."""
    if page.file.src_uri != "index.md" or not exported():
        return markdown
    found, count = PICTURE.subn(FRAME, markdown, count=1)
    if not count:
        raise ValueError("docs/index.md has no picture `found.png` with a caption.")
    return found


def on_post_build(config: Any) -> None:
    """Copies its files into the site."""
    if folder := exported():
        shutil.copytree(folder, pathlib.Path(config["site_dir"], FOLDER))


def exported() -> str | None:
    """The folder of the exported page."""
    return os.environ.get("DEMONSTRATION")
