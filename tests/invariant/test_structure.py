"""The house: rooms and floors within their limits, and one place for each name."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest
from tools.structure import LIMITS, circles_of, floors_of, measure, upward

from helpers import ROOT

SOURCE = ROOT / "src" / "cuma"
FILES_ANYWHERE = {
    "__init__": "hands names on",
    "__main__": "Python's own name",
    "base": "of each room",
    "config": "of each room",
}
"""Base names of files that may stand in several rooms, and why."""
CLASSES_TWICE: dict[str, str] = {}
"""Class names that may stand in several files, and why."""
LONGEST = 60
"""Lines of a function, its docstring left out."""


def sources() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def test_the_figures_are_within_their_limits() -> None:
    figures, lines = measure()
    assert {name: value for name, value in figures.items() if value > LIMITS[name]} == {}, lines


def test_circles_floors_and_upward_imports_are_found() -> None:
    line = {"a": frozenset("b"), "b": frozenset("c"), "c": frozenset[str]()}
    assert floors_of(line) == {"a": 3, "b": 2, "c": 1}
    assert circles_of(line) == []
    assert circles_of({**line, "c": frozenset("b")}) == ["b", "c"]
    assert upward(line, ["a", "b | c"]) == ["b -> c"]
    assert upward(line, ["b", "(a)", "c"]) == ["a -> b"]


def test_a_base_name_stands_in_one_room() -> None:
    places = defaultdict(list)
    for path in sources():
        places[path.stem].append(path.relative_to(SOURCE).as_posix())
    twice = {name: files for name, files in places.items() if len(files) > 1 and name not in FILES_ANYWHERE}
    assert twice == {}


def test_a_class_name_stands_in_one_file() -> None:
    places = defaultdict(set)
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].add(path.relative_to(SOURCE).as_posix())
    assert {name: files for name, files in places.items() if len(files) > 1 and name not in CLASSES_TWICE} == {}


def test_no_function_is_too_long() -> None:
    long = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                lines = node.end_lineno - node.lineno + 1 - len((ast.get_docstring(node) or "").splitlines())
                if lines > LONGEST:
                    long.append(f"{path.relative_to(SOURCE)}:{node.lineno} {node.name} {lines}")
    assert long == []


@pytest.mark.parametrize("word", ["said", "asked", "found", "told"])
def test_no_function_or_class_is_named_by_a_bare_participle(word: str) -> None:
    names = [
        f"{path.relative_to(SOURCE)}:{node.lineno} {node.name}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name.strip("_").lower() == word
    ]
    assert names == []
