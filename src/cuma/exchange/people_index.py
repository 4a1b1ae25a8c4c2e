"""Many exported people: folders named by a keyed hash, an index, and the nearest for somebody new.

The hash says nothing without the secret beside the index, so the folders' names may stand in an engine's log. The index
itself holds the people's embeddings, from which a profile can be guessed: keep it as you would keep the profiles.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cuma.errors import ExportError, RunError
from cuma.people.encoder import ProfileEncoder
from cuma.people.profiles import Profile
from cuma.privacy.secret import kept_secret
from cuma.runs.folder import read_json, replacing, write_json

INDEX, EMBEDS, SECRET = "index.json", "people.safetensors", "secret"


def hash_of(profile: Profile, secret: bytes) -> str:
    """16 hexadecimal digits that only the owner of the secret can compute."""
    text = json.dumps([profile.sentence, profile.fields], sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), key=secret, digest_size=8, person=b"cuma-person").hexdigest()


def name_of(profile: Profile, adapter: bytes, secret: bytes) -> str:
    """A person's hash, and eight digits of their adapter's: made anew, it has another name.

    Engines keep what they computed by an adapter's name, and would go on with the old one's. Also the second part is
    keyed: whoever has the mixture could otherwise make everybody's adapter and compare.
    """
    digest = hashlib.blake2b(adapter, key=secret, digest_size=4, person=b"cuma-adapter").hexdigest()
    return f"{hash_of(profile, secret)}-{digest}"


def secret_of(folder: Path) -> bytes:
    """The folder's secret, made on first use. Raises ExportError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return kept_secret(folder / SECRET)
    except OSError as error:
        raise ExportError(f"Cannot write {folder}: {error.strerror or error}. Choose another folder.") from error


def write_index(
    folder: Path, entries: Iterable[Mapping[str, Any]], embeds: Tensor, mean: Tensor, spec: Mapping[str, Any]
) -> None:
    """Write the index of what was exported into `folder`.

    Args:
        folder: has a folder for each person.
        entries: for each person {"hash": the folder's name, …}: what index.json lists.
        embeds: [N, D] raw embeddings, in that order.
        mean: [D] the mean of the training profiles, which is where the empty profile stands.
        spec: which encoder made the embeddings.
    """
    with replacing(folder / EMBEDS) as temporary:
        save_file({"embeds": embeds.contiguous(), "mean": mean.detach().cpu().contiguous()}, temporary)
    write_json(folder / INDEX, {"encoder": dict(spec), "people": [dict(entry) for entry in entries]})


@dataclass(frozen=True)
class Nearest:
    """Whose adapter serves somebody best."""

    folder: Path
    distance: float
    """Euclidean distance between the embeddings; 0: the very same profile. Unrelated sentences are about 1 apart."""


class People:
    """An exported folder, to look people up in. Loads the sentence encoder, and no language model."""

    def __init__(self, folder: Path, index: Mapping[str, Any], embeds: Tensor, mean: Tensor) -> None:
        self.folder = folder
        self._names = [entry["hash"] for entry in index["people"]]
        self._spec = index["encoder"]
        self._mean = mean
        self._embeds = self._placed(embeds)
        self._encoder: ProfileEncoder | None = None

    @classmethod
    def open(cls, folder: str | Path) -> People:
        """Raises ExportError if `cuma export --profiles` did not write the folder."""
        folder = Path(folder)
        try:
            index, tensors = read_json(folder / INDEX), load_file(folder / EMBEDS)
            return cls(folder, index, tensors["embeds"], tensors["mean"])
        except (RunError, OSError, SafetensorError, KeyError, TypeError) as error:
            raise ExportError(
                f"{folder} is not a folder of exported people. `cuma export RUN --profiles FILE --output {folder}` "
                "makes one."
            ) from error

    def nearest(self, profile: Profile) -> Nearest:
        """The adapter of this person, or of whoever is nearest."""
        known = hash_of(profile, secret_of(self.folder))
        for name in self._names:
            if name.partition("-")[0] == known:  # older exports' names end with the person's hash
                return Nearest(self.folder / name, 0.0)
        if self._encoder is None:
            self._encoder = ProfileEncoder.from_spec(self._spec, cache_dir=False)
        distances = torch.cdist(self._placed(self._encoder([profile])), self._embeds)[0]
        best = int(distances.argmin())
        return Nearest(self.folder / self._names[best], float(distances[best]))

    def _placed(self, embeds: Tensor) -> Tensor:
        """Embeddings with the empty profile, a row of zeros, at the centre of the people seen in training."""
        absent = (embeds == 0).all(-1, keepdim=True)
        return torch.where(absent, self._mean, embeds)
