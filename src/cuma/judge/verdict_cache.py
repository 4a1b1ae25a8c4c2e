"""Verdicts on disk without the texts they are about."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from cuma.errors import JudgeError
from cuma.judge.question import VERDICTS, Verdict
from cuma.privacy.secret import keyed_hash

T = TypeVar("T")
CODE_DIGITS = 6
"""Hexadecimal digits that a verdict carries: few enough to copy, one in 16 million to guess."""


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
        return found if found in VERDICTS else None

    def put(self, asked: str, verdict: Verdict) -> None:
        """Keep a verdict. Raises JudgeError."""

        def write(database: sqlite3.Connection, key: bytes) -> None:
            database.execute("INSERT OR REPLACE INTO verdict VALUES (?, ?)", (key, verdict))

        self._use(write, asked)

    def code(self, asked: str) -> str:
        """The code of a question's verdict: always the same, unknown without the secret. Raises JudgeError."""
        with self._as_judge_error():
            return keyed_hash(asked, self.folder, "cuma-code").hex()[:CODE_DIGITS]

    def _use(self, action: Callable[[sqlite3.Connection, bytes], T], asked: str) -> T:
        """Do `action` in one transaction, on its own connection: threads must not share one."""
        with self._as_judge_error():
            key = keyed_hash(asked, self.folder, "cuma-judge")
            with closing(sqlite3.connect(self.folder / "verdicts.sqlite", timeout=30)) as database, database:
                database.execute("CREATE TABLE IF NOT EXISTS verdict (key BLOB PRIMARY KEY, value TEXT NOT NULL)")
                return action(database, key)

    @contextmanager
    def _as_judge_error(self) -> Iterator[None]:
        """What goes wrong in the folder, as a JudgeError."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise JudgeError(
                f"The judge's verdicts cannot be kept in {self.folder} ({type(error).__name__}: {error}). Delete that "
                "folder to start afresh, or set CUMA_CACHE to a writable one."
            ) from error
