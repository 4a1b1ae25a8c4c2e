"""Embeddings on disk without the texts they came from.

A profile is personal data, and there are so few plausible profiles that a plain hash of one can be guessed; so can a
vector, by encoding the guess. So an entry's key is a *keyed* hash (BLAKE2b) and its vector is masked with a keyed
stream (SHAKE-256), under a random secret of this machine that lies beside the database, readable only by its owner.
Whoever gets the database alone learns no text, and cannot tell whether a guessed one is in it.
"""

from __future__ import annotations

import hashlib
import sqlite3
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import numpy as np

from cuma.privacy.secret import kept_secret

CHECKSUM_BYTES = 16

T = TypeVar("T")


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

        def read(database: sqlite3.Connection) -> dict[str, np.ndarray]:
            found = {}
            for text in texts:
                key = self._key(text)
                row = database.execute("SELECT value FROM embedding WHERE key = ?", (key,)).fetchone()
                vector = self._unseal(key, row[0], dim) if row else None
                if vector is not None:
                    found[text] = vector
            return found

        return self._use(read) or {}

    def put(self, vectors: Mapping[str, np.ndarray]) -> None:
        """Keep these vectors, all or none."""

        def write(database: sqlite3.Connection) -> None:
            keys = {text: self._key(text) for text in vectors}
            rows = [(keys[text], self._seal(keys[text], vector)) for text, vector in vectors.items()]
            database.executemany("INSERT OR REPLACE INTO embedding VALUES (?, ?)", rows)

        self._use(write)

    def _use(self, action: Callable[[sqlite3.Connection], T]) -> T | None:
        """Do `action` in one transaction, on its own connection: threads and forked processes must not share one."""
        if self._broken:
            return None
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._secret = self._secret or kept_secret(self.folder / "secret")
            with closing(sqlite3.connect(self.folder / "embeddings.sqlite", timeout=30)) as database, database:
                database.execute("CREATE TABLE IF NOT EXISTS embedding (key BLOB PRIMARY KEY, value BLOB NOT NULL)")
                return action(database)
        except (sqlite3.Error, OSError) as error:
            self._broken = True
            warnings.warn(
                f"The cache of profile embeddings in {self.folder} cannot be used ({type(error).__name__}: {error}); "
                "going on without it. Delete that folder to start afresh, or set CUMA_CACHE to a writable one.",
                stacklevel=4,
            )
            return None

    def _key(self, text: str) -> bytes:
        """Keyed hash of (model, text); the length in front keeps the two from running into one another."""
        message = len(self._model).to_bytes(8, "big") + self._model + text.encode()
        return hashlib.blake2b(message, key=self._secret or b"", person=b"cuma-key").digest()

    def _mask(self, key: bytes, raw: bytes) -> bytes:
        """`raw` XOR a stream that only the secret gives; its own inverse."""
        stream = hashlib.shake_256((self._secret or b"") + key).digest(len(raw))
        return bytes(np.frombuffer(raw, np.uint8) ^ np.frombuffer(stream, np.uint8))

    def _checksum(self, raw: bytes) -> bytes:
        return hashlib.blake2b(raw, digest_size=CHECKSUM_BYTES, key=self._secret or b"", person=b"cuma-value").digest()

    def _seal(self, key: bytes, vector: np.ndarray) -> bytes:
        """Little-endian float32 bytes, masked, with a checksum behind them."""
        masked = self._mask(key, vector.astype("<f4").tobytes())
        return masked + self._checksum(masked)

    def _unseal(self, key: bytes, value: bytes, dim: int) -> np.ndarray | None:
        """The vector [dim], or None if the entry has another length or its checksum is wrong."""
        masked = value[:-CHECKSUM_BYTES]
        if len(masked) != 4 * dim or value[-CHECKSUM_BYTES:] != self._checksum(masked):
            return None
        return np.frombuffer(self._mask(key, masked), dtype="<f4").astype(np.float32)
