"""Where a pretrained model comes from: a local folder, an installed package, or the Hugging Face Hub.

Both the backbone and the profile encoder go through `locate`, so both say in the same words what is missing and how to
get it. The answer is always a folder on this machine; nothing is loaded here and no model library is imported.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cuma.errors import BackboneError, MissingModelError, suggestion

WANTED_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "README.md"]
"""What is fetched from the Hub: configuration, tokenizer, model card and safetensors, never pickled weights or code."""

UNWANTED_FILES = ["onnx/*", "openvino/*", "original/*", "consolidated*"]
"""Second copies of the same weights that some repositories carry."""

LICENCES = {
    "meta-llama/Llama-3.1-8B-Instruct": "llama3.1",
    "Qwen/Qwen3-8B": "apache-2.0",
    "Qwen/Qwen3-Embedding-0.6B": "apache-2.0",
}
"""Licences, by Hub id, for when no model card lies beside the weights."""


@dataclass(frozen=True)
class Located:
    """A pretrained model on this machine."""

    folder: Path
    """The folder that holds it."""
    revision: str | None
    """The Hub's commit id; None when it did not come from the Hub."""


def cache_folder() -> Path:
    """Where cuma keeps what it can compute again: `$CUMA_CACHE`, or `~/.cache/cuma`. Not created here."""
    return Path(os.environ.get("CUMA_CACHE") or Path.home() / ".cache" / "cuma")


def package_folder(package: str) -> Path | None:
    """The folder of an installed package, found without importing it; None when it is not installed."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def locate(name: str, revision: str | None, known: Mapping[str, object]) -> Located:
    """The folder of model `name`, downloaded from the Hub if it is not here yet.

    Args:
        name: a folder, or a Hub id such as "Qwen/Qwen3-8B".
        revision: branch, tag or commit on the Hub; None is the main branch. A folder has none.
        known: the short names that exist, for the suggestion in the error's text.

    Raises:
        BackboneError: not a folder and not on the Hub, gated, or the Hub cannot be reached and it is not in its cache.
    """
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        if revision is not None:
            raise BackboneError(f"{name!r} is a folder, and a folder has no revision; got {revision!r}. Leave it out.")
        return Located(folder, None)
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith("."):
        raise _absent(name, "There is no such folder.", known)
    return _fetch(name, revision, known)


def _fetch(name: str, revision: str | None, known: Mapping[str, object]) -> Located:
    """The Hub's snapshot. One request when everything is cached; the cached snapshot when the Hub cannot be reached."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        snapshot = snapshot_download(
            name, revision=revision, allow_patterns=WANTED_FILES, ignore_patterns=UNWANTED_FILES
        )
    except GatedRepoError:
        reason = f"Its owners ask you to accept a licence: open https://huggingface.co/{name}, then `hf auth login`."
    except RepositoryNotFoundError:
        reason = "The Hub has no such model, or it is private (then `hf auth login` first)."
    except RevisionNotFoundError:
        reason = f"The Hub has the model, but no revision {revision!r}."
    except LocalEntryNotFoundError:
        reason = (
            "It is not in the Hub's cache on this machine, and the Hub cannot be reached (no network, or offline mode)."
        )
    except HFValidationError:
        reason = "That is neither a folder nor a name the Hub allows."
    except (HfHubHTTPError, OSError) as error:
        reason = f"Downloading it failed: {type(error).__name__}: {error}."
    else:
        return Located(Path(snapshot), Path(snapshot).name)
    raise _absent(name, reason, known)


def _absent(name: str, reason: str, known: Mapping[str, object]) -> MissingModelError:
    """The error for a model that is not here, with every way to get one."""
    return MissingModelError(
        f"model {name!r} is not here. {reason} Give a Hub id such as 'Qwen/Qwen3-8B' while online (or fetch it once "
        f"with `hf download ID`), the path of a local folder, or a short name. {suggestion(name, known)}"
    )


def require_safetensors(name: str, folder: Path, marker: str, kind: str) -> None:
    """Refuse a folder that is not a `kind` (it lacks the file `marker`), or has only pickled weights or none.

    Raises:
        BackboneError: says which file is missing and what to do.
    """
    if not (folder / marker).is_file():
        raise BackboneError(f"{name!r} is not {kind}: expected the file {marker!r} in its folder, found none.")
    if any(folder.rglob("*.safetensors")):
        return
    found = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.rglob(pattern))
    got = f"only pickled ones ({', '.join(found[:3])}), which can run code when loaded" if found else "none"
    raise BackboneError(
        f"{name!r} needs weights as *.safetensors; got {got}. Load it where you trust it and save it again "
        "with `model.save_pretrained(FOLDER)`."
    )


def licence_of(name: str, folder: Path) -> str:
    """The licence that the model card beside the weights states, else the one known for this Hub id, else "unknown"."""
    from huggingface_hub.repocard import metadata_load

    card = folder / "README.md"
    metadata = (metadata_load(card) or {}) if card.is_file() else {}
    stated = metadata.get("license_name") if metadata.get("license") == "other" else metadata.get("license")
    return str(stated or LICENCES.get(name, "unknown"))


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Without the bars that transformers draws while it reads weights that are already on this machine."""
    from transformers.utils import logging

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()
