"""What a stranger meets beside the code: the image's recipe, the issue forms, the page on security."""

from __future__ import annotations

import re
import shlex
import tomllib

import yaml

from helpers import ROOT


def test_the_image_is_made_of_what_is_there() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    let_through = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    copied = [word for line in re.findall(r"^COPY (.*)$", text, re.M) for word in shlex.split(line)[:-1]]
    assert {"pyproject.toml", "src", "constraints.txt"} <= set(copied)
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in let_through
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = re.findall(r"'\.\[(.*?)\]'", text)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    assert project["license-files"][0] in copied
    assert project["readme"] in copied
    assert "USER cuma" in text


def test_issue_forms_are_forms_and_ask_for_nobody_s_profile() -> None:
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) == 4
    for form in (yaml.safe_load(file.read_text(encoding="utf-8")) for file in forms if file.stem != "config"):
        assert form["name"]
        assert form["description"]
        fields = [part for part in form["body"] if part["type"] != "markdown"]
        assert all(part["attributes"]["label"] for part in fields)
        assert len({part["id"] for part in fields}) == len(fields)
    bug = (ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text(encoding="utf-8")
    assert "Never paste anybody's profile" in bug
    assert "send anybody's profile" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
