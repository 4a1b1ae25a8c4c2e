"""Checkpoints that can be trusted: a list of SHA-256 sums written last, and the newest checkpoint that matches it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from cuma.runs import read_json, write_json
from cuma.tuner.manifest import sha256

SUMS = "sha256.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def seal(folder: Path) -> None:
    """Write the sums of all files of a finished checkpoint."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    write_json(folder / SUMS, {str(path.relative_to(folder)): sha256(path) for path in files})


def is_whole(folder: Path) -> bool:
    """True if the checkpoint is sealed and every file still matches."""
    if not (folder / SUMS).is_file():
        return False
    sums = read_json(folder / SUMS)
    return all((folder / name).is_file() and sha256(folder / name) == sum_ for name, sum_ in sums.items())


def newest_whole(folder: Path) -> Path | None:
    """The newest whole checkpoint in `folder`; half-written ones are removed, because transformers would take them."""
    found = sorted(
        (path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name)),
        key=lambda path: int(path.name.rpartition("-")[2]),
        reverse=True,
    )
    for path in found:
        if is_whole(path):
            return path
        shutil.rmtree(path)
    return None


class SealCheckpoints(TrainerCallback):
    """Seals each checkpoint as soon as transformers has written it."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called after every save."""
        if state.is_world_process_zero:
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")
