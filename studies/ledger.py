"""What a study has measured so far, kept in its checked-in result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cuma.machine import hardware, versions
from cuma.runs import write_json


class Ledger:
    """A result file that grows run by run: a study that was stopped goes on from it, without the folders of its runs.

    Args:
        file: the result; what it holds already counts as done.
        command: what makes it, for its readers.
    """

    def __init__(self, file: Path, command: str) -> None:
        self.file = file
        self.command = command
        self.runs: dict[str, dict[str, Any]] = json.loads(file.read_text())["runs"] if file.exists() else {}

    def once(self, name: str, made_by: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The scores of one run: those in the file if they were made by this very recipe, else measured now.

        Args:
            name: of the run, in the file.
            made_by: digest of its recipe, or of several.
            measure: trains and measures it.
        """
        known = self.runs.get(name, {})
        if known.get("recipe") != made_by:
            self.runs[name] = {"recipe": made_by, **measure()}
            self.write()
            print(name, self.runs[name].get("unseen", self.runs[name]), flush=True)
        return {key: value for key, value in self.runs[name].items() if key != "recipe"}

    def write(self, **table: Any) -> None:
        """The file as it stands: the runs so far, and the table when all are there."""
        about = {"seed": 0, "hardware": hardware(), "versions": versions()}
        write_json(self.file, {"command": self.command, **table, "runs": self.runs, **about})
