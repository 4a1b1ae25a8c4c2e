"""Verdicts on disk without the texts they are about."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar, cast, get_args

from cuma.errors import JudgeError
from cuma.judge.question import Verdict
from cuma.secret import kept_secret

T = TypeVar("T")


class VerdictCache:
    """What was asked, as a keyed hash (BLAKE2b) → the verdict, in one SQLite file. Safe for threads and processes.

    Whoever gets the database alone learns no text, and cannot tell whether a guessed one is in it: the key is a random
    secret of this machine that lies beside it. A cache that fails is an error: without one, money would be spent twice.

    Args:
        folder: created (mode 0700) if absent; holds `secret` and `verdicts.sqlite`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, asked: str) -> Verdict | None:
        """The verdict on exactly this question, if it was given before. Raises JudgeError."""

        def read(database: sqlite3.Connection, key: bytes) -> str | None:
            row = database.execute("SELECT value FROM verdict WHERE key = ?", (key,)).fetchone()
            return row[0] if row else None

        found = self._use(read, asked)
        return cast(Verdict, found) if found in get_args(Verdict) else None

    def put(self, asked: str, verdict: Verdict) -> None:
        """Keep a verdict. Raises JudgeError."""

        def write(database: sqlite3.Connection, key: bytes) -> None:
            database.execute("INSERT OR REPLACE INTO verdict VALUES (?, ?)", (key, verdict))

        self._use(write, asked)

    def _use(self, action: Callable[[sqlite3.Connection, bytes], T], asked: str) -> T:
        """Do `action` in one transaction, on its own connection: threads must not share one."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            key = hashlib.blake2b(asked.encode(), key=kept_secret(self.folder / "secret"), person=b"cuma-judge")
            with closing(sqlite3.connect(self.folder / "verdicts.sqlite", timeout=30)) as database, database:
                database.execute("CREATE TABLE IF NOT EXISTS verdict (key BLOB PRIMARY KEY, value TEXT NOT NULL)")
                return action(database, key.digest())
        except (sqlite3.Error, OSError) as error:
            raise JudgeError(
                f"The judge's verdicts cannot be kept in {self.folder} ({type(error).__name__}: {error}). Delete that "
                "folder to start afresh, or set CUMA_CACHE to a writable one."
            ) from error
