"""A run, or an adapter's folder alone, loaded to answer people: chat, server and export all start here.

Runs of the same frozen model share it, as far as PEFT can hold their adapters side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cuma.answering.adapter_files import load_adapter
from cuma.data.surveys.prompts import Message, told_who_asks
from cuma.errors import AdapterError, ProfileError, RunError, UnsupportedError
from cuma.models.backbones import Backbone, load_backbone
from cuma.people.encoder import ProfileEncoder
from cuma.people.profiles import Profile
from cuma.recipes.load import load_recipe
from cuma.recipes.schema import BackboneSection, Recipe
from cuma.runs.folder import Run, read_json
from cuma.tuner.config import CumaConfig

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Source:
    """What a folder holds, before anything heavy is loaded."""

    folder: Path
    """As it was given."""
    adapter: Path | None
    """The adapter's folder; None: the untouched model."""
    backbone: BackboneSection
    profile_in: str
    """Where the profile goes, as `data.profile_in` of a recipe says it."""
    padding_side: str = "left"
    """As in the run's evaluation."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """What the run recorded of its people: `population` of run.json; empty for an adapter alone."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """The rest of run.json; empty for an adapter alone."""

    @classmethod
    def read(cls, folder: str | Path) -> Source:
        """Look at a run's folder, its adapter, or an adapter's folder that belongs to no run.

        An adapter alone does not say how its prompts looked: if its router reads no profile, the profile is taken to
        have stood in the prompt.

        Raises:
            RunError: nothing of the kind is there, or the run is not trained.
            UnsupportedError: a run that must not, or cannot, answer people.
        """
        path = Path(folder)
        if path.name == "adapter" and (path.parent / "run.json").is_file():
            path = path.parent
        if (path / CONFIG).is_file() and not (path / "run.json").is_file():
            return cls._of_adapter(path)
        return cls._of_run(Run.open(path))

    @classmethod
    def _of_adapter(cls, path: Path) -> Source:
        config = read_json(path / CONFIG)
        name = config.get("base_model_name_or_path")
        if not name:
            raise AdapterError(f"{path / CONFIG} does not name the model that the adapter was trained on.")
        reads_profile = config.get("peft_type") == "CUMA" and config.get("router_input") != "semantic"
        section = BackboneSection(model_name_or_path=name, revision=config.get("revision"))
        _refuse_prefix(path, str(config.get("peft_type", "")) == "PREFIX_TUNING")
        return cls(path, path, section, "router" if reads_profile else "prompt")

    @classmethod
    def _of_run(cls, run: Run) -> Source:
        recipe = load_recipe(run.path / "recipe.yaml")
        untouched = recipe.adapter.method == "none"
        if run.info["kind"] == "anchor":
            raise UnsupportedError(f"{run.path} is an anchor, a predictor without a language model: it cannot answer.")
        if not untouched and run.info["status"] not in ("trained", "evaluated"):
            raise RunError(f"{run.path} is not trained yet (status {run.info['status']!r}). Run `cuma train` first.")
        _refuse_controls(run.path, recipe)
        return cls(
            run.path,
            None if untouched else run.adapter,
            recipe.backbone,
            recipe.data.profile_in,
            recipe.evaluation.padding_side,
            run.info.get("population", {}),
            run.info,
        )


def _refuse_controls(path: Path, recipe: Recipe) -> None:
    if recipe.data.shuffle_profiles:
        raise UnsupportedError(
            f"{path} is a control: its router learnt profiles that were dealt out to the wrong groups on purpose, so "
            "that everybody would get somebody else's answers. Take the run without data.shuffle_profiles."
        )
    if recipe.data.exemplars:
        raise UnsupportedError(
            f"{path} is few-shot: its prompts need survey answers, which only `cuma evaluate` has. Take another run."
        )
    _refuse_prefix(path, recipe.adapter.method == "prefix")


def _refuse_prefix(path: Path, is_prefix: bool) -> None:
    if is_prefix:
        raise UnsupportedError(
            f"{path} is a trained prefix: PEFT puts it in front of every call, so what was computed for a conversation "
            "cannot be kept and gone on with. `cuma evaluate` measures it; to talk to a model take another method."
        )


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

    def __init__(self, *, device: str | None = None, encoder: str | None = None) -> None:
        """Args:
        device: e.g. "cpu", "cuda"; None: the GPU if there is one.
        encoder: the sentence encoder, for adapters that do not say which one they were trained with.
        """
        self._device = device
        self._encoder = encoder
        self._encoders: dict[str, ProfileEncoder] = {}
        self._mixtures: dict[BackboneSection, tuple[Backbone, Any]] = {}

    def load(self, folder: str | Path, name: str | None = None) -> Answerer:
        """The answerer of a run or an adapter.

        Args:
            folder: the run's or the adapter's.
            name: what it is called; None: the folder's name.

        Raises:
            RunError, AdapterError, BackboneError, ConfigError, UnsupportedError: it cannot be loaded; the text says
                why.
        """
        source = Source.read(folder)
        name = name or source.folder.resolve().name
        if source.adapter is None:
            backbone = self._load_backbone(source.backbone)
            return Answerer(name, source, backbone, backbone.model.eval(), None, None)
        backbone, model, adapter = self._load_adapter(source, source.adapter)
        config = model.peft_config[adapter]
        reads = isinstance(config, CumaConfig) and config.needs_profile
        return Answerer(name, source, backbone, model, adapter, self._load_encoder(config) if reads else None)

    def _load_adapter(self, source: Source, folder: Path) -> tuple[Backbone, Any, str]:
        """Backbone, model, the adapter's name in it. Mixtures over one backbone share it."""
        mixture = read_json(folder / CONFIG).get("peft_type") == "CUMA"
        shared = self._mixtures.get(source.backbone) if mixture else None
        if shared is None:
            backbone = self._load_backbone(source.backbone)
            model = load_adapter(backbone.model, folder, needs_sums=bool(source.info)).eval()
            if mixture:
                self._mixtures[source.backbone] = (backbone, model)
            return backbone, model, model.active_adapter
        backbone, model = shared  # PEFT has a mixture's files verified where it reads the configuration
        adapter = f"answerer_{len(model.peft_config)}"
        model.load_adapter(str(folder), adapter_name=adapter, is_trainable=False)
        return backbone, model.eval(), adapter

    def _load_backbone(self, section: BackboneSection) -> Backbone:
        import torch

        device = self._device or ("cuda" if torch.cuda.is_available() else None)
        backbone = load_backbone(
            section.model_name_or_path,
            revision=section.revision,
            dtype=section.dtype,
            quantization=section.quantization,
            device_map=None if device in (None, "cpu") else device,
        )
        backbone.model.requires_grad_(False)
        return backbone

    def _load_encoder(self, config: CumaConfig) -> ProfileEncoder:
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
