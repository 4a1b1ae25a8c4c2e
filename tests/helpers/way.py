"""A way into the project, as a page of the docs tells it: its files are written, its commands run, in one folder."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
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
    with ExitStack() as servers:
        for language, title, text in BLOCK.findall((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")):
            text = _replaced(text, instead or {}) if title else text
            if title:
                (folder / title).write_text(text, encoding="utf-8")
            for line in text.splitlines() if language == "bash" else ():
                command = _replaced(line, instead or {})
                if command.endswith("&"):
                    yield line, servers.enter_context(_serving(command.removesuffix("&"), folder))
                else:
                    yield line, run(command, folder)


def _replaced(text: str, instead: Mapping[str, str]) -> str:
    for written, other in instead.items():
        text = text.replace(written, other)
    return text


@contextmanager
def _serving(line: str, folder: Path) -> Iterator[str]:
    """A command that goes on in the background, from the line that says where it listens until the page ends."""
    log = folder / "server.log"
    with log.open("w", encoding="utf-8") as out:
        child = subprocess.Popen([sys.executable, "-m", *shlex.split(line)], stdout=out, stderr=out, cwd=folder)
    try:
        end = time.monotonic() + 240
        while "http://" not in (said := log.read_text(encoding="utf-8")):
            assert child.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.1)
        yield said
    finally:
        child.terminate()
        child.wait()


def run(line: str, folder: Path) -> str:
    """What one command prints."""
    words = shlex.split(line, comments=True)
    if words[0] == "cuma":
        done = CliRunner().invoke(app, words[1:])
        assert done.exit_code == 0, f"{line}\n{done.output}"
        return done.output
    assert words[0] == "python", line
    told = subprocess.run([sys.executable, *words[1:]], cwd=folder, capture_output=True, text=True, check=False)
    assert told.returncode == 0, f"{line}\n{told.stderr}"
    return told.stdout
