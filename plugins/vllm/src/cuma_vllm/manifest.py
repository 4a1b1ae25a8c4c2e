"""SHA-256 sums of an adapter's files, checked before anything is read, as PEFT loading does it in cuma.

safetensors notices a truncated file but not a flipped bit.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path

from cuma_vllm.errors import AdapterFileError

MANIFEST = "cuma_manifest.json"
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"


def verify(folder: Path) -> str:
    """Check the files in an adapter's folder. No manifest is one warning, as in cuma.

    Returns:
        A digest of both files: another adapter, another digest.

    Raises:
        AdapterFileError: a file is missing, damaged or a pickle.
    """
    if not (folder / CONFIG).is_file():
        raise AdapterFileError(f"{folder} has no {CONFIG}: it is no adapter's folder. Name one that cuma wrote.")
    if not (folder / WEIGHTS).is_file():
        also = f" {PICKLE} is refused, because loading a pickle can run code." if (folder / PICKLE).exists() else ""
        raise AdapterFileError(f"{folder} has no {WEIGHTS}.{also} Copy or train the adapter again.")
    found = {name: _sha256(folder / name) for name in (CONFIG, WEIGHTS)}
    if not (folder / MANIFEST).is_file():
        warnings.warn(f"{folder} has no {MANIFEST}: its files are loaded unverified.", UserWarning, stacklevel=2)
    elif (sums := _listed(folder)) != found:
        name = next(name for name in found if sums.get(name) != found[name])
        raise AdapterFileError(
            f"{folder}: {name} does not match its SHA-256 in {MANIFEST}: it was damaged or changed after saving. Copy "
            f"the adapter again; if the change was on purpose, delete {MANIFEST}."
        )
    return hashlib.sha256("".join(found.values()).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _listed(folder: Path) -> dict[str, str]:
    try:
        sums = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise AdapterFileError(f"{folder}: {MANIFEST} is damaged. Copy the adapter again.") from error
    if not isinstance(sums, dict) or not {CONFIG, WEIGHTS} >= set(sums):
        raise AdapterFileError(f"{folder}: {MANIFEST} is damaged: it lists other files than {CONFIG} and {WEIGHTS}.")
    return sums
