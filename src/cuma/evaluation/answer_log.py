"""What a model has answered so far, on disk, so that an evaluation that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from cuma.errors import RunError


class AnswerLog:
    """Answers by key, one JSON line each, appended as they come. Safe for threads.

    The first line says what was asked; a log of anything else is started anew. A line that a crash cut short is asked
    again. Floats are written so that they are read back to the last bit.

    Raises:
        RunError: the file cannot be written.
    """

    def __init__(self, path: Path, asked: str) -> None:
        """Args:
        path: the file, made if it is absent.
        asked: identifies the questions and the model; see `fingerprint`.
        """
        self.path = path
        self._lock = Lock()
        self._known: dict[str, Any] = {}
        head = json.dumps({"asked": asked})
        lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
        whole = lines[:-1]  # behind the last newline: "" or a torn line
        if whole and whole[0] == head:
            for line in whole[1:]:
                entry = json.loads(line)
                self._known[entry["key"]] = entry["value"]
        else:
            whole = [head]
        self._write("".join(f"{line}\n" for line in whole), "w")

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Any:
        """What was answered; None if that is not known."""
        return self._known.get(key)

    def put(self, key: str, value: Any) -> None:
        """Keep an answer: plain types only."""
        with self._lock:
            self._known[key] = value
            self._write(json.dumps({"key": key, "value": value}) + "\n", "a")

    def close(self) -> None:
        """The evaluation is written: forget the log."""
        self.path.unlink(missing_ok=True)

    def _write(self, text: str, mode: str) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open(mode, encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise RunError(
                f"Cannot write {self.path}: {error.strerror or error}. Free some space and go on."
            ) from error


def fingerprint(*parts: Any) -> str:
    """A digest of plain values: rows that are asked, the model's name. No text of theirs can be read from it."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def distinct(rows: Sequence[dict[str, Any]], *, profiles: bool) -> tuple[list[dict[str, Any]], list[int]]:
    """The rows that differ in what a model is told, and the place among them of each row's own.

    A model that is told nothing is so asked once a question and order, not once for each group.

    profiles: whether the model reads each row's profile, beside its prompt.
    """
    first: dict[str, int] = {}
    differing: list[dict[str, Any]] = []
    places: list[int] = []
    for row in rows:
        key = repr((row["prompt"], row["order"], row.get("profile") if profiles else None))
        if key not in first:
            first[key] = len(differing)
            differing.append(row)
        places.append(first[key])
    return differing, places


def rows_fingerprint(rows: Sequence[dict[str, Any]]) -> str:
    """`fingerprint` of prompts and profiles, in their order."""
    return fingerprint([[row["question_id"], row["order"], row["prompt"], row.get("profile")] for row in rows])
