"""SHA-256 sums of an adapter's files: written last, checked before anything is loaded.

safetensors notices a truncated file but not a flipped bit, and PEFT accepts both a pickle and a file with too few
tensors. PEFT shows us an adapter's folder in one place only, `PeftConfig.from_pretrained`; there we verify. Before
that it reads the configuration to learn the method's name, so that file is checked whenever PEFT reads it.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME
from safetensors import SafetensorError, safe_open

from cuma.errors import AdapterError, UnsupportedError

MANIFEST_NAME = "cuma_manifest.json"
_FILES = (SAFETENSORS_WEIGHTS_NAME, CONFIG_NAME)
_HUB_ARGUMENTS = ("revision", "cache_dir", "token", "local_files_only", "force_download", "repo_type")


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def refuse_pickle(folder: str | Path) -> None:
    """Refuse to complete an adapter whose weights were just saved as a pickle. An older adapter there stays whole.

    Raises:
        UnsupportedError: they were; the pickle is removed, as nothing of ours would load it.
    """
    pickled, weights = Path(folder) / WEIGHTS_NAME, Path(folder) / SAFETENSORS_WEIGHTS_NAME
    if pickled.exists() and not (weights.exists() and weights.stat().st_mtime_ns > pickled.stat().st_mtime_ns):
        pickled.unlink()
        raise UnsupportedError("cuma adapters are saved as safetensors only. Drop safe_serialization=False.")


def write(folder: str | Path) -> None:
    """Write the manifest of the adapter files in `folder`, atomically."""
    folder = Path(folder)
    sums = {name: sha256(folder / name) for name in _FILES if (folder / name).exists()}
    temporary = folder / f".{MANIFEST_NAME}.{os.getpid()}"
    temporary.write_text(json.dumps({"sha256": sums}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(temporary, folder / MANIFEST_NAME)


def verify(name_or_path: str | Path, subfolder: str | None = None, **kwargs: Any) -> None:
    """Check an adapter, in a local folder or on the Hub, against its manifest.

    No manifest is one warning (the adapter may come from elsewhere). No adapter at all, and a configuration saved
    without weights, are left to PEFT's own message.

    Raises:
        AdapterError: the weights are a pickle, a listed file is missing or differs, or there are no cuma tensors.
    """
    folder = Path(name_or_path) / (subfolder or "")
    fetch = _local(folder) if (folder / CONFIG_NAME).is_file() else _from_hub(str(name_or_path), subfolder, kwargs)
    if fetch(CONFIG_NAME) is None:
        return
    weights = fetch(SAFETENSORS_WEIGHTS_NAME)
    if weights is None and fetch(WEIGHTS_NAME) is not None:
        raise AdapterError(
            f"{folder}: there is no {SAFETENSORS_WEIGHTS_NAME}. Pickled weights ({WEIGHTS_NAME}) are refused, because "
            "loading one can run code: save the adapter again as safetensors."
        )
    listed = fetch(MANIFEST_NAME)
    if listed is None:
        warnings.warn(f"{folder} has no {MANIFEST_NAME}: its files are loaded unverified.", UserWarning, stacklevel=3)
    else:
        _compare(folder, _read(folder, listed), fetch)
    if weights is not None:
        _has_cuma_tensors(weights)


def verify_sums(folder: str | Path) -> None:
    """Check the files of any method's adapter in a local folder against the manifest that lies there.

    Raises:
        AdapterError: there is no manifest, or a listed file is missing or differs.
    """
    folder = Path(folder)
    if not (folder / MANIFEST_NAME).is_file():
        raise AdapterError(f"{folder} has no {MANIFEST_NAME}: it is not whole. Copy or train the adapter again.")
    _compare(folder, _read(folder, folder / MANIFEST_NAME), _local(folder))


def verify_config(path: str | Path) -> None:
    """Check a configuration file against the manifest beside it; without one there is nothing to check.

    Raises:
        AdapterError: it differs.
    """
    folder, listed = Path(path).parent, Path(path).parent / MANIFEST_NAME
    if Path(path).name == CONFIG_NAME and listed.is_file():
        _compare(folder, _read(folder, listed), _local(folder), (CONFIG_NAME,))


def _read(folder: Path, manifest: Path) -> dict[str, str]:
    """File name → SHA-256, for every file a manifest must list."""
    try:
        sums = json.loads(manifest.read_text(encoding="utf-8"))["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise AdapterError(f"{folder}: {MANIFEST_NAME} is damaged. Copy the adapter again.") from error
    if not isinstance(sums, dict) or CONFIG_NAME not in sums or not set(sums) <= set(_FILES):
        raise AdapterError(f"{folder}: {MANIFEST_NAME} is damaged: it lists other files than {', '.join(_FILES)}.")
    return sums


def _compare(
    folder: Path, sums: dict[str, str], fetch: Callable[[str], Path | None], names: tuple[str, ...] = _FILES
) -> None:
    for name in names:
        path, expected = fetch(name), sums.get(name)
        if path is None and expected is not None:
            raise AdapterError(f"{folder}: {name} is listed in {MANIFEST_NAME} but missing. Copy the adapter again.")
        if path is not None and sha256(path) != expected:
            raise AdapterError(
                f"{folder}: {name} does not match its SHA-256 in {MANIFEST_NAME}: it was damaged or changed after "
                f"saving. Copy the adapter again; if the change was on purpose, delete {MANIFEST_NAME}."
            )


def _has_cuma_tensors(weights: Path) -> None:
    try:
        with safe_open(weights, framework="pt") as tensors:
            found = any("cuma_" in key for key in tensors.keys())  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise AdapterError(f"{weights}: not a readable safetensors file ({error}). Copy the adapter again.") from error
    if not found:
        raise AdapterError(f"{weights}: holds no tensor of a cuma adapter. Is this another method's adapter?")


def _local(folder: Path) -> Callable[[str], Path | None]:
    return lambda name: folder / name if (folder / name).is_file() else None


def _from_hub(repo: str, subfolder: str | None, kwargs: dict[str, Any]) -> Callable[[str], Path | None]:
    arguments = {name: kwargs[name] for name in _HUB_ARGUMENTS if name in kwargs}

    def fetch(name: str) -> Path | None:
        try:
            return Path(hf_hub_download(repo, name, subfolder=subfolder, **arguments))
        except (EntryNotFoundError, LocalEntryNotFoundError, OSError, ValueError):
            # Absent, or the repository cannot be reached: PEFT says so in its own words right after this.
            return None

    return fetch
