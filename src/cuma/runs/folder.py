"""Run: the folder that one stage hands to the next. Every file in it is whole or absent, never half written.

recipe.yaml, run.json, stages/01-sft/{adapter/, checkpoints/, metrics.jsonl}, adapter/ (the final stage's),
evaluations/BENCHMARK-HASH/{predictions.parquet, routing.parquet, scores.json}, report.html
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cuma.errors import CumaError, RunError

KINDS = ("trained", "untrained", "anchor", "measured")
STATUSES = ("created", "training", "trained", "evaluated")
DONE = ("predictions.parquet", "discrimination.parquet")
"""Written last: either marks an evaluation as done."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; on success it takes the place of `path` in one step.

    Parent folders are made. If the block fails, `path` is as it was and nothing else is left behind.

    Raises:
        RunError: the file cannot be written (disk full, no permission, …).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, path)
    except CumaError:
        raise
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        # The first error is the one worth telling: on a disk that fails, this may fail too.
        if temporary.exists():
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file in one step. Raises RunError."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file in one step; numpy values and paths are converted. Raises RunError."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=_plain) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of a run. Raises RunError if it is absent or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"Cannot read {path}: {error.strerror or error}.") from error
    except ValueError as error:
        raise RunError(
            f"{path} is not valid JSON ({error}). Restore it, or delete the run and make it again."
        ) from error


@dataclass(frozen=True)
class Stage:
    """One stage of training (`stages/01-sft`). Making this value makes no folder."""

    path: Path
    """The stage's folder."""

    @property
    def adapter(self) -> Path:
        """Folder of the adapter at the end of the stage."""
        return self.path / "adapter"

    @property
    def checkpoints(self) -> Path:
        """Folder of the trainer's checkpoints."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """The log: one JSON object a line."""
        return self.path / "metrics.jsonl"

    def log(self, row: dict[str, Any]) -> None:
        """Append one row to the log. Raises RunError."""
        line = json.dumps(row, ensure_ascii=False, default=_plain) + "\n"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._drop_torn_line()
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise write_error(self.metrics, error) from error

    def read_log(self) -> list[dict[str, Any]]:
        """The log's rows; none if nothing was logged. A last line that a crash cut short is not there."""
        if not self.metrics.is_file():
            return []
        lines = self.metrics.read_text(encoding="utf-8").split("\n")[:-1]  # behind the last newline: "" or a torn line
        try:
            return [json.loads(line) for line in lines]
        except ValueError as error:
            raise RunError(f"{self.metrics} is damaged ({error}). Delete it; training writes it again.") from error

    def rewind(self, step: int) -> None:
        """Forget rows after `step`: what a run does that resumes from the checkpoint of that step. Raises RunError."""
        rows = self.read_log()
        kept = [row for row in rows if row.get("step", 0) <= step]
        if len(kept) < len(rows):
            write_text(self.metrics, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))

    def _drop_torn_line(self) -> None:
        if not self.metrics.is_file():
            return
        data = self.metrics.read_bytes()
        if data and not data.endswith(b"\n"):
            write_text(self.metrics, data[: data.rfind(b"\n") + 1].decode("utf-8"))


class Run:
    """A run's folder. Build it with `Run.create` or `Run.open`."""

    def __init__(self, path: Path, recipe_text: str, info: dict[str, Any]) -> None:
        self.path = path
        self.recipe_text = recipe_text
        self.info = info
        """The contents of run.json; change it with `update`."""
        self.writes = True
        """False in all processes of a training but one: `update` then changes `info` alone."""

    @classmethod
    def create(cls, path: str | Path, recipe_text: str, info: dict[str, Any] | None = None) -> Run:
        """Make the folder with recipe.yaml and run.json; `info` may leave out name, label, kind and status.

        Raises:
            RunError: there is a run already, the folder cannot be written, or kind or status is unknown.
        """
        path = Path(path)
        if (path / "run.json").exists():
            raise RunError(f"{path} holds a run already. Open it to continue, or choose another folder.")
        whole = {"name": path.name, "label": path.name, "kind": "trained", "status": "created", **(info or {})}
        _check(whole)
        write_text(path / "recipe.yaml", recipe_text)
        write_json(path / "run.json", whole)  # last: a folder with run.json is a whole run
        return cls(path, recipe_text, read_json(path / "run.json"))

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Read a run.

        Raises:
            RunError: the folder is no run (the text lists runs beside it), or its files are damaged.
        """
        path = Path(path)
        if not (path / "run.json").is_file():
            raise RunError(f"{path} is not a run: there is no run.json in it.{_runs_near(path)}")
        info = read_json(path / "run.json")
        if not isinstance(info, dict):
            raise RunError(
                f"{path / 'run.json'} holds {type(info).__name__}, expected an object. Restore or delete it."
            )
        _check(info)
        try:
            recipe_text = (path / "recipe.yaml").read_text(encoding="utf-8")
        except OSError as error:
            raise RunError(f"Cannot read {path / 'recipe.yaml'}: {error.strerror or error}.") from error
        return cls(path, recipe_text, info)

    def update(self, **info: Any) -> None:
        """Set keys of run.json; the others stay. Raises RunError."""
        whole = {**self.info, **info}
        _check(whole)
        if self.writes:
            write_json(self.path / "run.json", whole)
            whole = read_json(self.path / "run.json")
        self.info = whole

    @property
    def begun(self) -> bool:
        """Whether it holds anything that was trained: a step that was logged, a checkpoint, the end of a stage."""
        started = self.info["status"] not in ("created", "training") or bool(self.info.get("stages"))
        logged = any(row.get("step", 0) > 0 for stage in self.stages() for row in stage.read_log())
        return started or logged or any(self.path.glob("stages/*/checkpoints/*"))

    @property
    def adapter(self) -> Path:
        """Folder of the final adapter."""
        return self.path / "adapter"

    def stage(self, name: str) -> Stage:
        """The stage of that name ("01-sft"), begun or not."""
        return Stage(self.path / "stages" / _checked_name("stage", name))

    def stages(self) -> list[Stage]:
        """The stages begun so far, in order."""
        return [Stage(folder) for folder in sorted((self.path / "stages").glob("*")) if folder.is_dir()]

    def evaluation(self, benchmark: str, digest: str) -> Path:
        """Folder for one evaluation, made if it is absent. Raises RunError."""
        folder = self.path / "evaluations" / _checked_name("evaluation", f"{benchmark}-{digest}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(folder, error) from error
        return folder

    def evaluations(self) -> list[Path]:
        """Folders of the evaluations that have their predictions, sorted by name."""
        return sorted(file.parent for file in (self.path / "evaluations").glob("*/predictions.parquet"))

    def evaluation_of(self, digest: str) -> Path | None:
        """The finished evaluation of that digest, of whatever kind and benchmark; None if there is none."""
        folders = sorted((self.path / "evaluations").glob(f"*-{digest}"))
        return next((folder for folder in folders if any((folder / name).is_file() for name in DONE)), None)

    def chosen(self, evaluations: Iterable[Path], mark: str = DONE[0]) -> Path | None:
        """Of several finished evaluations the one that asks as the run's own recipe does, else the one whose file
        `mark` is the newest; None of none."""
        own = f"-{self.info.get('digest')}"
        return max(
            evaluations,
            key=lambda folder: (folder.name.endswith(own), (folder / mark).stat().st_mtime),
            default=None,
        )

    def chosen_with(self, mark: str) -> Path | None:
        """`chosen` of all evaluations that have this file."""
        return self.chosen((file.parent for file in (self.path / "evaluations").glob(f"*/{mark}")), mark)


def _check(info: dict[str, Any]) -> None:
    for key, allowed in (("kind", KINDS), ("status", STATUSES)):
        if info.get(key) not in allowed:
            raise RunError(f"run.json: {key} is {info.get(key)!r}; allowed: {', '.join(allowed)}.")


def _checked_name(what: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise RunError(f"{name!r} cannot name the folder of one {what}: use letters, digits, '.', '_' and '-'.")
    return name


def _runs_near(path: Path) -> str:
    runs = sorted({str(file.parent) for pattern in ("*/run.json", "*/*/run.json") for file in path.glob(pattern)})
    runs = runs or sorted(str(file.parent) for file in path.parent.glob("*/run.json"))
    return f" Runs near it: {', '.join(runs[:12])}." if runs else " `cuma train RECIPE` makes one."


def _flush_to_disk(path: Path) -> None:
    with path.open("rb+") as file:  # Windows flushes only what may be written
        os.fsync(file.fileno())


def write_error(path: Path, error: OSError) -> RunError:
    """The error of a file or folder that cannot be written."""
    todo = {
        errno.ENOSPC: "Free some space; the same command then continues",
        errno.EDQUOT: "Free some space; the same command then continues",
    }.get(error.errno or 0, "Choose a folder that you may write to")
    return RunError(f"Cannot write {path}: {error.strerror or error}. {todo}.")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
