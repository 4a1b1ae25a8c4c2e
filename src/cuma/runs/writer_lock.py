"""One run, one writer: a lock of the operating system on the run's folder, which ends with its process, however that
ends. Readers need none."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from cuma.errors import RunError
from cuma.runs.folder import read_json, write_error, write_json

LOCK, HOLDER = ".writer.lock", ".holder.lock"
"""The file that is locked, and the one that says by whom: what a locked file holds cannot be read everywhere."""
PATIENCE = 1.0
"""Seconds in which another process may still end, or say who it is."""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Within it nobody else trains or evaluates this run: no other process, no other thread. It may be nested.

    Raises:
        RunError: somebody does, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.resolve() / LOCK, timeout=PATIENCE, is_singleton=True)
        lock.acquire()
    except Timeout:
        raise RunError(
            f"{folder} is in use by {_holder(folder)}: it is being trained or evaluated. Wait until that ends, or "
            "choose another --output-dir. It can be read meanwhile."
        ) from None
    except OSError as error:
        raise write_error(folder / LOCK, error) from error
    try:
        if lock.lock_counter == 1:
            now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
            write_json(folder / HOLDER, {"process": os.getpid(), "host": platform.node(), "since": now})
        yield
    finally:
        if lock.lock_counter == 1:
            (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    try:
        who = read_json(folder / HOLDER)
        return f"process {who['process']} on {who['host']} since {who['since']}"
    except (RunError, KeyError, TypeError):
        return "another process"
