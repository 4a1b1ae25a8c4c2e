"""Pages of the site that are written when it is built: the command line from `--help`, and the files beside README.

MkDocs calls it (`hooks` in mkdocs.yml); `make docs` builds the site.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

from cuma.cli.main import app

ROOT = Path(__file__).parents[1]
BESIDE_README = {"contributing.md": "CONTRIBUTING.md", "security.md": "SECURITY.md", "changelog.md": "CHANGELOG.md"}
"""Page of the site → file at the repository's root."""
FETCHED = "https://unpkg.com/iframe-worker/shim"
"""What the theme makes a page fetch, so that its search works from a folder."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages, and the results that other pages link to."""
    files.append(File.generated(config, "cli.md", content=command_line()))
    for page, source in BESIDE_README.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text.replace("](docs/", "](")))
    return files


def on_post_page(output: str, page: Any, config: Any) -> str:
    """The search's part that the theme would fetch from the network is ours (docs/site-search.js)."""
    return output.replace(FETCHED, "site-search.js")


def on_post_template(output: str, template_name: str, config: Any) -> str:
    """The same for the page that says that there is none."""
    return output.replace(FETCHED, "/site-search.js")


def command_line() -> str:
    """Every command with its options, as `--help` has them."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="cuma", title="The command line")
    return "\n".join(_plain(text.splitlines())) + "\n"


def _plain(lines: list[str]) -> Iterator[str]:
    """Without the lists of commands, whose lines are cut short, and with < and > as such inside code."""
    listed = False
    for line in lines:
        listed = line == "**Commands**:" or (listed and not line.startswith(("#", "**")))
        if not listed:
            yield re.sub(r"`[^`]*`", lambda code: html.unescape(code.group()), line)
