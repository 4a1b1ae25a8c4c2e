"""README and docs: what they print can be run, their links lead somewhere, the site builds and can be searched."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from cuma.cli.main import app
from helpers import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def blocks(page: Path, *languages: str) -> Iterator[str]:
    for indent, language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language in languages:
            yield "\n".join(line.removeprefix(indent) for line in text.splitlines())


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every line of a page's shell blocks, without what follows a comment or a pipe."""
    for text in blocks(page, "bash", "sh", "console"):
        for line in _whole_lines(text.replace("\\\n", " ")):
            words = shlex.split(line, comments=True)
            for sign in ("|", ">", "&&", "&"):
                words = words[: words.index(sign)] if sign in words else words
            if words:
                yield words


def _whole_lines(text: str) -> Iterator[str]:
    """Lines of a shell, where a quotation may go over several."""
    line = ""
    for part in text.splitlines():
        line = f"{line}\n{part}" if line else part
        try:
            shlex.split(line, comments=True)
        except ValueError:
            continue
        yield line
        line = ""
    assert not line, line


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 90


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_on_a_page_is_python(page: Path) -> None:
    for number, text in enumerate(blocks(page, "python")):
        if not text.startswith("    "):  # a row of a table, in a guide
            compile(text, f"{page.name}, block {number}", "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_on_a_page_exist_with_their_options(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for words in commands(page):
        line = " ".join(words)
        if "cuma" in words[:6] and words[0] in ("cuma", "python", "torchrun", "accelerate"):
            rest = words[words.index("cuma") + 1 :]
            if rest[:1] != ["lm-eval"]:  # its options are the harness's
                _check_options(rest, line)
        elif words[0] == "make":
            assert {word for word in words[1:] if re.fullmatch(r"[a-z-]+", word)} <= set(targets), line
        elif words[0] == "python" and words[1].endswith(".py") and "/" in words[1]:
            assert (ROOT / words[1]).is_file(), line


def _check_options(words: list[str], line: str) -> None:
    command: click.Command = typer.main.get_command(app)  # type: ignore[assignment]
    while hasattr(command, "commands"):
        word = next((word for word in words if not word.startswith("-")), None)
        if word is None:
            break
        assert word in command.commands, line
        command = command.commands[word]
        words = words[words.index(word) + 1 :]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    asked = {word.split("=")[0] for word in words if re.match(r"--[a-z]", word)}
    assert asked <= {*known, "--help", "--version"}, line


def test_links_between_files_lead_somewhere() -> None:
    for page in (*PAGES, ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"):
        text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in LINK.findall(text):
            file = target.split("#")[0]
            if file and not file.startswith(("http", "mailto:")):
                written = file in ("contributing.md", "security.md", "changelog.md", "cli.md")  # tools/site_pages.py
                assert written or (page.parent / file).exists(), f"{page.name}: {target}"


def test_the_ten_lines_run(tmp_path: Path) -> None:
    text = next(blocks(ROOT / "README.md", "python"))
    script = text + "\nprint(backbone.tokenizer.batch_decode(answers))\n"
    done = subprocess.run(
        [sys.executable, "-W", "error::FutureWarning", "-c", script],
        cwd=tmp_path, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_the_site_has_every_page_and_asks_the_network_for_nothing(site: Path) -> None:
    there = {page.stem for page in site.glob("*.html")}
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} <= there
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|img|link rel="stylesheet")[^>]*(?:src|href)="https?:', text), page.name
    assert "cuma data build" in (site / "cli.html").read_text(encoding="utf-8")


@pytest.mark.browser
def test_the_site_can_be_searched_from_a_folder(site: Path, browser) -> None:  # type: ignore[no-untyped-def]
    browser.get((site / "index.html").as_uri())
    field = WebDriverWait(browser, 30).until(lambda page: page.find_element(By.CSS_SELECTOR, "input.md-search__input"))
    WebDriverWait(browser, 30).until(lambda page: field.is_displayed())
    field.click()
    field.send_keys("adapter.top_k")
    found = WebDriverWait(browser, 60).until(
        lambda page: page.find_elements(By.CSS_SELECTOR, ".md-search-result__item")
    )
    assert any("Recipes and fields" in entry.text for entry in found)
