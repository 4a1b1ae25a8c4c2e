"""A build on disk: one `DatasetDict` a task, and card.json, written last. The same input gives the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import DatasetDict
from datasets.utils.logging import disable_progress_bar

import cuma
from cuma.data.builders.base import SPLITS, Built, Options
from cuma.data.folder_design import CARD
from cuma.errors import BenchmarkError

_CHUNK = 2**20


def write(built: Built, output: Path, options: Options) -> dict[str, Any]:
    """Write a build into `output`, whole or not at all, and return its card.

    A folder that holds this very build is written anew, and keeps what else lies in it (the sparsity page).

    Raises:
        BenchmarkError: the folder holds something else, or cannot be written.
    """
    disable_progress_bar()
    card = make_card(built, options)
    _check_folder(output, card)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
        try:
            _write_tasks(built, staging)
            (staging / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            staging.chmod(0o755)
            for other in output.iterdir() if output.exists() else ():
                if not (staging / other.name).exists():
                    (shutil.copytree if other.is_dir() else shutil.copy2)(other, staging / other.name)
            shutil.rmtree(output, ignore_errors=True)
            os.replace(staging, output)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise BenchmarkError(f"{output} cannot be written ({error.strerror}). Choose another --output.") from error
    return card


def check_output(output: Path) -> dict[str, Any] | None:
    """The card of an earlier build in a folder, if it holds one. Told before hours of reading.

    Raises:
        BenchmarkError: the folder holds something else, or it cannot be one that is written.
    """
    above = next(path for path in (output, *output.absolute().parents) if path.exists())
    if not above.is_dir():
        raise BenchmarkError(f"{above} is a file, and no folder. Choose another --output.")
    if not os.access(above, os.W_OK):
        raise BenchmarkError(f"{above} may not be written to. Choose another --output.")
    if not output.exists() or not any(output.iterdir()):
        return None
    try:
        held = json.loads((output / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        held = None
    if not isinstance(held, dict) or not {"name", "sources"} <= held.keys():
        raise BenchmarkError(f"{output} holds something else. Choose another --output.")
    return held


def _check_folder(output: Path, card: dict[str, Any]) -> None:
    """Raise `BenchmarkError` if a folder holds anything but an earlier build of the same data."""
    held = check_output(output)
    if held is None:
        return
    plain = json.loads(json.dumps(card))
    differing = sorted(key for key in (held.keys() & plain.keys()) - {"code_version"} if held[key] != plain[key])
    if differing:
        raise BenchmarkError(
            f"{output} holds other data (its card differs in {', '.join(differing)}), which is never replaced. Choose "
            "another --output, or remove that folder first."
        )


def _write_tasks(built: Built, staging: Path) -> None:
    for task, splits in built.tasks.items():
        ordered = {split: splits[split] for split in SPLITS if split in splits and len(splits[split])}
        if not ordered:
            continue
        DatasetDict(ordered).save_to_disk(str(staging / task))
        for split in ordered:
            _name_by_content(staging / task / split)
    for folder, by_split in built.tables.items():
        (staging / folder).mkdir()
        for split, table in by_split.items():
            pq.write_table(table, staging / folder / f"{split}.parquet", compression="zstd")


def _name_by_content(folder: Path) -> None:
    """The fingerprint that `datasets` draws at random becomes one of the content."""
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256()
    for file in state["_data_files"]:
        digest.update((folder / file["filename"]).read_bytes())
    state["_fingerprint"] = digest.hexdigest()[:16]
    (folder / "state.json").write_text(json.dumps(state, indent=2, sort_keys=True), encoding="utf-8")


def make_card(built: Built, options: Options) -> dict[str, Any]:
    """What a reader of the data needs to know, in plain types."""
    ledger = built.ledger
    return {
        "name": built.name,
        "licence": built.licence,
        "citation": built.citation,
        "sources": [{"name": path.name, "sha256": file_sum(path)} for path in built.sources],
        "rows_read": ledger.rows_read,
        "rows_kept": ledger.rows_kept,
        "dropped": dict(sorted(ledger.dropped.items())),
        "noted": dict(sorted(ledger.noted.items())),
        "splits": _splits(built),
        "tasks": {
            task: {split: len(rows) for split, rows in splits.items() if len(rows)}
            for task, splits in built.tasks.items()
        },
        "seed": options.seed,
        "sample": options.sample,
        "holdout": [list(pair) for pair in options.holdout],
        **({"holdout_share": options.holdout_share} if options.holdout_share else {}),
        **built.facts,
        "code_version": cuma.__version__,
    }


def _splits(built: Built) -> dict[str, dict[str, int]]:
    """Split → people and groups in any task, and the rows of the first task, which holds one for every answer."""
    first = next(iter(built.tasks.values()), {})
    result = {}
    for split in SPLITS:
        tasks = [splits[split] for splits in built.tasks.values() if split in splits and len(splits[split])]
        if tasks:
            people, groups = (set().union(*(rows[column][:] for rows in tasks)) for column in ("person_id", "group"))
            answers = len(first[split]) if split in first else 0
            result[split] = {"people": len(people - {None}), "groups": len(groups - {None}), "answers": answers}
    return result


def file_sum(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files with their names."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}\0{file_sum(file)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
