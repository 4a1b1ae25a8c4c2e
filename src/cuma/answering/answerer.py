"""A run, an adapter or a model, loaded to answer people: what chat, server, export and lm-eval ask (see `loading`).

Runs of the same frozen model share it, as far as PEFT can hold their adapters side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cuma.answering.loading import Source, frozen_backbone, put_on
from cuma.data.surveys.prompts import Message, told_who_asks
from cuma.errors import AdapterError, ProfileError
from cuma.models.backbones import Backbone
from cuma.people.encoder import ProfileEncoder
from cuma.people.profiles import Profile
from cuma.recipes.schema import BackboneSection
from cuma.tuner.config import CumaConfig
from cuma.tuner.manifest import verify_sums

__all__ = ["Answerer", "Answerers", "Source"]

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


@dataclass(eq=False)
class Answerer:
    """A model that can be asked, and how it is to be asked."""

    name: str
    source: Source
    backbone: Backbone
    model: Any
    """A PeftModel, which may hold adapters of other answerers too, or the bare causal LM; in eval mode."""
    adapter: str | None
    """Name of its adapter in `model`; None: the bare model."""
    encoder: ProfileEncoder | None
    """Makes what the router reads; None: the router reads no profile."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The base's own tokenizer."""
        return self.backbone.tokenizer

    @property
    def config(self) -> CumaConfig | None:
        """The mixture's configuration; None for any other method."""
        config = None if self.adapter is None else self.model.peft_config[self.adapter]
        return config if isinstance(config, CumaConfig) else None

    @property
    def reads_profile(self) -> bool:
        """False if who asks makes no difference."""
        return self.source.profile_in != "nowhere"

    @property
    def profile_in_prompt(self) -> bool:
        """True if prompts say who asks."""
        return self.source.profile_in in ("prompt", "both")

    def activate(self) -> None:
        """Make this answerer's adapter the one that runs. Only whoever runs the model may call it."""
        if self.adapter is not None and self.model.active_adapter != self.adapter:
            self.model.set_adapter(self.adapter, inference_mode=True)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Within this context a mixture records its gates; for other models nothing happens."""
        if self.config is None:
            yield
            return
        with self.model.record_routing():
            yield

    def messages(self, messages: Sequence[Message], profile: Profile) -> list[Message]:
        """A conversation as the model saw such ones in training: a persona in front, if the prompt says who asks."""
        return told_who_asks(messages, profile.sentence) if self.profile_in_prompt else list(messages)

    def embeds(self, profiles: Sequence[Profile]) -> Tensor | None:
        """[B, D] what the router reads of these people; None if it reads nothing.

        Raises:
            ProfileError: somebody is described to a model that reads no profile.
        """
        if not self.reads_profile and any(profiles):
            raise ProfileError(f"the model {self.name!r} reads no profile: leave it out, everybody gets one answer.")
        return None if self.encoder is None else self.encoder(profiles)


class Answerers:
    """Loads answerers one after another; they share backbones and encoders where they can."""

    def __init__(self, *, device: str | None = None, encoder: str | None = None, **instead: Any) -> None:
        """Args:
        device: e.g. "cpu", "cuda"; None: the GPU if there is one.
        encoder: the sentence encoder, for adapters that do not say which one they were trained with.
        instead: `revision`, `dtype` or `quantization` of the frozen model, in place of what the folder says.
        """
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._instead = instead
        self._encoder = encoder
        self._encoders: dict[str, ProfileEncoder] = {}
        self._mixtures: dict[BackboneSection, tuple[Backbone, Any]] = {}

    def load(self, folder: str | Path | Source, name: str | None = None) -> Answerer:
        """The answerer of a run, an adapter or a model.

        Args:
            folder: the run's or the adapter's, or what was read of it.
            name: what it is called; None: the folder's name.

        Raises:
            RunError, AdapterError, BackboneError, ConfigError, UnsupportedError: it cannot be loaded; the text says
                why.
        """
        source = folder if isinstance(folder, Source) else Source.read(folder)
        name = name or source.folder.resolve().name
        config = source.config
        mixture = isinstance(config, CumaConfig)
        shared = self._mixtures.get(source.backbone) if mixture else None
        if shared is not None:
            backbone, model = shared
            adapter: str | None = _beside(model, source)
        else:
            backbone = frozen_backbone(source.backbone, self._device, **self._instead)
            model = put_on(backbone.model, source)
            adapter = None if config is None else model.active_adapter
        if mixture:
            self._mixtures[source.backbone] = (backbone, model)
        encoder = self.encoder_of(config) if isinstance(config, CumaConfig) and config.needs_profile else None
        return Answerer(name, source, backbone, model, adapter, encoder)

    def encoder_of(self, config: CumaConfig) -> ProfileEncoder:
        """The encoder that a mixture was trained with. Raises AdapterError if what it gives has another width."""
        spec = config.profile_encoder or ({"id": self._encoder} if self._encoder else None)
        key = repr(spec)
        if key not in self._encoders:
            # Whoever asks is not in any training set: nothing of them is kept on the disk.
            self._encoders[key] = ProfileEncoder.from_spec(spec, cache_dir=False)
        encoder = self._encoders[key]
        if encoder.dim != config.profile_dim:
            raise AdapterError(
                f"the adapter's router reads {config.profile_dim} numbers about a person, and the encoder "
                f"{encoder.spec['id']!r} gives {encoder.dim}. Name the encoder it was trained with (--encoder)."
            )
        return encoder


def _beside(model: Any, source: Source) -> str:
    """Put a mixture beside those that share its backbone; its name in the model."""
    assert source.adapter is not None  # a mixture
    if source.needs_sums:
        verify_sums(source.adapter)
    name = f"answerer_{len(model.peft_config)}"
    model.load_adapter(str(source.adapter), adapter_name=name, is_trainable=False)
    model.eval()
    return name
