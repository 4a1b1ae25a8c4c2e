"""What a study has measured so far, kept in its checked-in result."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from cuma.runs.folder import write_json
from cuma.runs.machine import hardware, versions


class Ledger:
    """A result file that grows run by run: a study that was stopped goes on from it, without the folders of its runs.

    Several processes may share one file.

    Args:
        file: the result; what it holds already counts as done.
        command: what makes it, for its readers.
    """

    def __init__(self, file: Path, command: str) -> None:
        self.file = file
        self.command = command
        self.runs: dict[str, dict[str, Any]] = {}
        self.machines: dict[str, Any] = {}
        self._read()

    def once(self, name: str, made_by: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The scores of one run: those in the file if they were made by this very recipe, else measured now.

        Args:
            name: of the run, in the file.
            made_by: digest of its recipe, or of several.
            measure: trains and measures it.
        """
        if self.runs.get(name, {}).get("recipe") != made_by:
            here = hardware()
            machine = here["gpu"] or here["cpu"]
            measured = {"recipe": made_by, "machine": machine, "commit": commit(), **measure()}
            with FileLock(self.file.with_suffix(".lock")):
                self._read()  # what others have added
                self.runs[name] = measured
                self.machines[machine] = {"hardware": here, "versions": versions()}
                self.write()
            figures = {key: value for key, value in measured.items() if isinstance(value, int | float)}
            print(name, measured.get("unseen", figures), flush=True)
        return {key: value for key, value in self.runs[name].items() if key not in ("recipe", "machine", "commit")}

    def write(self, **table: Any) -> None:
        """The file as it stands: the runs so far, what each was made on, and the table when all are there."""
        write_json(
            self.file, {"command": self.command, **table, "runs": self.runs, "seed": 0, "machines": self.machines}
        )

    def _read(self) -> None:
        if self.file.exists():
            found = json.loads(self.file.read_text())
            self.runs, self.machines = found["runs"], found["machines"]


def commit() -> str:
    """Of the code that measures, short; "" outside a checkout."""
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip()
