"""Checkpoints that can be trusted: a list of SHA-256 sums written last, and the newest checkpoint that matches it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import PartialState
from safetensors import SafetensorError
from transformers import TrainerCallback

from cuma.errors import CheckpointError, CumaError, RunError
from cuma.runs.folder import read_json, write_json
from cuma.tuner.manifest import sha256

logger = logging.getLogger(__name__)
SUMS = "sha256.json"
NAME = re.compile(r"checkpoint-(\d+)")


def seal(folder: Path) -> None:
    """Write the sums of all files of a finished checkpoint."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    write_json(folder / SUMS, {str(path.relative_to(folder)): sha256(path) for path in files})


def fault(folder: Path) -> str | None:
    """What is wrong with a checkpoint, in a few words; None if it is sealed and every file still matches."""
    if not folder.is_dir():
        return "is no folder"
    if not (folder / SUMS).is_file():
        return f"is half written: it has no {SUMS}"
    try:
        sums = read_json(folder / SUMS)
    except RunError:
        return f"is damaged: {SUMS} cannot be read"
    wrong = [name for name, sum_ in sums.items() if not (folder / name).is_file() or sha256(folder / name) != sum_]
    return f"is damaged: {wrong[0]} is missing or differs from its sum" if wrong else None


def require_whole(folder: Path) -> Path:
    """The folder itself. Raises `CheckpointError` if it is not a whole checkpoint."""
    if problem := fault(folder):
        raise CheckpointError(
            f"checkpoint {folder} {problem}. Name another checkpoint, or let resume_from_checkpoint=True take the "
            "newest whole one."
        )
    return folder


def newest_whole(folder: Path) -> Path | None:
    """The newest whole checkpoint in `folder`. Newer ones are renamed (rotation would count them), with a warning."""
    found = sorted(
        (path for path in folder.glob("checkpoint-*") if NAME.fullmatch(path.name)),
        key=lambda path: int(path.name.rpartition("-")[2]),
        reverse=True,
    )
    for path in found:
        problem = fault(path)
        if problem is None:
            return path
        logger.warning("%s %s; it is kept as %s, and an older one is looked for.", path.name, problem, _set_aside(path))
    return None


def _set_aside(checkpoint: Path) -> str:
    """Rename to broken-checkpoint-N, which neither rotation nor resuming looks at; what has that name stays."""
    place = checkpoint.with_name(f"broken-{checkpoint.name}")
    earlier = 1
    while place.exists():
        earlier += 1
        place = checkpoint.with_name(f"broken-{checkpoint.name}-{earlier}")
    return checkpoint.rename(place).name


@contextmanager
def telling_write_errors(folder: Path) -> Iterator[None]:
    """Within it, whatever cannot be written is a `RunError` that says what to do; nothing before it is lost.

    safetensors and torch report a full disk as errors of their own.
    """
    try:
        yield
    except CumaError:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:
        raise RunError(
            f"Cannot write the checkpoint {folder}: {error}. Older checkpoints are whole. Free some space, or make the "
            "folder writable; the same command then continues."
        ) from error


class CheckpointPart(TrainerCallback):
    """A callback whose state is kept in each checkpoint; transformers forgets most of what callbacks know.

    `Routed.checkpoint_parts` are written by the main process before the checkpoint is sealed, and read by all.
    """

    @property
    def over(self) -> bool:
        """Whether training has ended by its word, so that a run that goes on must not train on."""
        return False

    def write(self, folder: Path) -> None:
        """Into a checkpoint."""
        raise NotImplementedError

    def read(self, folder: Path) -> None:
        """From a whole checkpoint."""
        raise NotImplementedError


class SealCheckpoints(TrainerCallback):
    """Seals each checkpoint as soon as transformers has written it."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called after every save, in every process."""
        PartialState().wait_for_everyone()  # each process writes its own random state
        if state.is_world_process_zero:
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")
