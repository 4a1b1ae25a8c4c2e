"""Embeddings on disk without the texts they came from.

A profile is personal data, and there are so few plausible profiles that a plain hash of one can be guessed. So an entry's
key is a *keyed* hash (BLAKE2b) under a random secret of this machine, which lies beside the database, readable only by its
owner. Whoever gets the database alone learns neither a text nor whether a guessed text is in it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

SECRET_BYTES = 32
SEAL_BYTES = 16


class EmbeddingCache:
    """Texts' keyed hashes → float32 vectors, in one SQLite file. Safe for several processes at once.

    A cache that cannot be read or written is no reason to stop: it warns once, and from then on holds nothing.

    Args:
        folder: created (mode 0700) if absent; holds `secret` and `embeddings.sqlite`.
        model: whatever tells one encoder from another (id, revision, fingerprint, template); part of every key.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self.folder = folder
        self._model = model.encode()
        self._secret: bytes | None = None
        self._broken = False

    def get(self, texts: Iterable[str], dim: int) -> dict[str, np.ndarray]:
        """The vectors [dim] of those texts that are here; entries that are damaged count as absent."""
        found: dict[str, np.ndarray] = {}
        with self._open() as database:
            for text in texts if database is not None else ():
                row = database.execute("SELECT value FROM embedding WHERE key = ?", (self._key(text),)).fetchone()
                vector = self._unseal(row[0], dim) if row else None
                if vector is not None:
                    found[text] = vector
        return found

    def put(self, vectors: Mapping[str, np.ndarray]) -> None:
        """Keep these vectors, all or none."""
        with self._open() as database:
            if database is not None:
                rows = [(self._key(text), self._seal(vector)) for text, vector in vectors.items()]
                database.executemany("INSERT OR REPLACE INTO embedding VALUES (?, ?)", rows)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection | None]:
        """A connection of its own for each use, so that threads and forked processes never share one; None if broken."""
        if self._broken:
            yield None
            return
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._secret = self._secret or _read_secret(self.folder / "secret")
            database = sqlite3.connect(self.folder / "embeddings.sqlite", timeout=30)
            try:
                with database:  # commits, or rolls back when something is raised inside
                    database.execute("CREATE TABLE IF NOT EXISTS embedding (key BLOB PRIMARY KEY, value BLOB NOT NULL)")
                    yield database
            finally:
                database.close()
        except (sqlite3.Error, OSError) as error:
            self._broken = True
            warnings.warn(
                f"The cache of profile embeddings in {self.folder} cannot be used ({type(error).__name__}: {error}); "
                "going on without it. Delete that folder to start afresh, or set CUMA_CACHE to a writable one.",
                stacklevel=5,
            )
