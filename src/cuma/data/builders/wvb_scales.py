"""What WorldValuesBench asks, and what may be answered: its metadata files, and the options made from them.

The codebook lists the choices of the questionnaire; the answers are adjusted before they are used. Where the two differ
(15 questions), the options here are those of the adjusted scale.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cuma.errors import BenchmarkError

METADATA = ("question_metadata.json", "codebook.json", "answer_adjustment.json")
_WHERE = "Copy WorldValuesBench's dataset_construction files beside the answers."


@dataclass(frozen=True)
class Scale:
    """A value question and its options."""

    id: str
    text: str
    options: tuple[str, ...]
    scores: tuple[int, ...]
    """The number that WorldValuesBench gives each option."""
    adjustment: dict[int, int | None]
    """Code in the raw file → score; None: no answer. Codes that are not in it are scores already."""
    ordinal: bool
    category: str

    def place(self, score: int) -> int | None:
        """The index of the option with a score; None: the scale does not have it."""
        return self.scores.index(score) if score in self.scores else None


@dataclass(frozen=True)
class Metadata:
    """WorldValuesBench's own description of the survey."""

    scales: tuple[Scale, ...]
    """The value questions, in the file's order."""
    asked: dict[str, str]
    """Column → how it was asked, of every question."""
    choices: dict[str, dict[str, str]]
    """Column → code → text, of every question."""


def find(folder: Path, name: str) -> Path | None:
    """A file of that name in the folder or at most two folders below: the nearest, then the first by name."""
    for pattern in (name, f"*/{name}", f"*/*/{name}"):
        for path in sorted(folder.glob(pattern)):
            if path.is_file():
                return path
    return None


def read_metadata(folder: Path, as_released: bool) -> tuple[Metadata, list[Path]]:
    """The metadata, and the files they come from.

    as_released: the codebook's choices as they stand, though 15 questions' answers do not fit them.
    Raises `BenchmarkError` for a file that is missing, is no JSON, or has another form.
    """
    paths = []
    for name in METADATA:
        path = find(folder, name)
        if path is None:
            raise BenchmarkError(f"{folder} has no {name}. {_WHERE}")
        paths.append(path)
    questions, codebook, adjustments = (_json(path) for path in paths)
    try:
        choices = {str(name): _choices(entry["choices"]) for name, entry in codebook.items()}
        asked = {str(name): str(entry["question"]).strip() for name, entry in questions.items()}
        scales = tuple(
            _scale(name, entry, choices.get(name, {}), adjustments.get(name, {}), as_released)
            for name, entry in questions.items()
            if entry["use_case"] == "value"
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        names = ", ".join(METADATA)
        raise BenchmarkError(f"{folder}: {names} do not have the form of WorldValuesBench's. {_WHERE}") from None
    if not scales:
        raise BenchmarkError(f"{paths[0]} has no value question. {_WHERE}")
    return Metadata(scales, asked, choices), paths


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):
        raise BenchmarkError(f"{path} is no JSON. Download it again.") from None
    if not isinstance(value, dict):
        raise BenchmarkError(f"{path} is no JSON object. Download it again.")
    return value


def _choices(entry: dict[str, Any]) -> dict[str, str]:
    return {str(code): str(text) for code, text in entry.items()}


def _scale(
    name: str, entry: dict[str, Any], choices: dict[str, str], adjustment: dict[str, Any], as_released: bool
) -> Scale:
    changed = {int(old): None if new == "" else int(new) for old, new in adjustment.items()}
    labels = {int(code): text for code, text in choices.items() if int(code) >= 0}
    low, high = int(entry["answer_scale_min"]), int(entry["answer_scale_max"])
    if not 0 < high - low < 100:
        raise ValueError
    if as_released:
        scores = tuple(sorted(labels)) or tuple(range(low, high + 1))
        options = tuple(labels.get(score, str(score)) for score in scores)
    else:
        scores = tuple(range(low, high + 1))
        options = _options(scores, labels, changed)
    text = str(entry["question"])
    return Scale(
        id=name,
        text=text if as_released else text.strip(),
        options=options,
        scores=scores,
        adjustment=changed,
        ordinal=entry["answer_data_type"] == "ordinal",
        category=str(entry["category"]),
    )


def _options(scores: tuple[int, ...], labels: dict[int, str], changed: dict[int, int | None]) -> tuple[str, ...]:
    """The label of each score: its own, unless the code moved elsewhere; else that of the code that moved to it.

    Where some scores have no label but their number, the others are "1: label": a number between words says nothing.
    """
    moved = {new: labels[old] for old, new in changed.items() if new is not None and old in labels}
    kept = {code: text for code, text in labels.items() if code not in changed}
    texts = [" ".join((kept.get(score) or moved.get(score) or str(score)).split()) for score in scores]
    bare = [text == str(score) for text, score in zip(texts, scores, strict=True)]
    if not any(bare):
        return tuple(texts)
    return tuple(text if plain else f"{score}: {text}" for text, plain, score in zip(texts, bare, scores, strict=True))
