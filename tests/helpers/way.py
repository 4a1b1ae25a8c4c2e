"""A way into the project, as a page of the docs tells it: its files are written, its commands run, in one folder."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from typer.testing import CliRunner

from cuma.cli.main import app
from helpers import ROOT

BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def follow(page: str, folder: Path, instead: Mapping[str, str] | None = None) -> Iterator[tuple[str, str]]:
    """Each command of docs/`page`.md and what it prints; the caller stands in `folder`.

    instead: text of a command → what is run in its place, where the page's own would take minutes.

    Raises AssertionError with the command and its output if one fails.
    """
    for language, title, text in BLOCK.findall((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")):
        if title:
            (folder / title).write_text(text, encoding="utf-8")
        for line in text.splitlines() if language == "bash" else ():
            yield line, run(line, folder, instead or {})


def run(line: str, folder: Path, instead: Mapping[str, str]) -> str:
    """What one command prints."""
    for written, other in instead.items():
        line = line.replace(written, other)
    words = shlex.split(line, comments=True)
    if words[0] == "cuma":
        done = CliRunner().invoke(app, words[1:])
        assert done.exit_code == 0, f"{line}\n{done.output}"
        return done.output
    assert words[0] == "python", line
    told = subprocess.run([sys.executable, *words[1:]], cwd=folder, capture_output=True, text=True, check=False)
    assert told.returncode == 0, f"{line}\n{told.stderr}"
    return told.stdout
