"""The random secret beside a cache: under it a hash of personal data cannot be guessed and checked."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

SECRET_BYTES = 32


def kept_secret(path: Path) -> bytes:
    """The secret in the file `path`, made on first use, readable only by its owner.

    A hard link publishes it whole, and only if nobody else was first.

    Raises:
        OSError: the file cannot be read or written, or does not hold a secret.
    """
    if not path.exists():
        handle, draft = tempfile.mkstemp(dir=path.parent)  # mode 0600
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(secrets.token_bytes(SECRET_BYTES))
            with suppress(FileExistsError):
                os.link(draft, path)
        finally:
            os.unlink(draft)
    secret = path.read_bytes()
    if len(secret) != SECRET_BYTES:
        raise OSError(f"{path.name!r} should hold {SECRET_BYTES} bytes, got {len(secret)}")
    return secret


def keyed_hash(text: str, folder: Path, purpose: str) -> bytes:
    """A hash [64 bytes] of `text` under the secret in `folder`, another one for every purpose (up to 16 letters).

    The folder is made (mode 0700) if it is absent.

    Raises:
        OSError: as `kept_secret`.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    data = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, key=kept_secret(folder / "secret"), person=purpose.encode()).digest()
