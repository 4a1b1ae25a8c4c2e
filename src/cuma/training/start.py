"""`adapter.init_from`: training that starts from an adapter, which a run left or somebody gave.

Everything is checked by configuration files, before a model is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftConfig, PrefixTuningConfig
from peft.tuners.tuners_utils import DUMMY_TARGET_MODULES
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME

from cuma.answering.loading import Source, require_trained
from cuma.answering.materials import Materials
from cuma.errors import AdapterError, RecipeError, RunError
from cuma.options.mixture import MixtureOptions
from cuma.people.encoder import ProfileEncoder
from cuma.people.profile_table import ProfileTable
from cuma.recipes.load import load_recipe
from cuma.recipes.schema import Recipe
from cuma.runs.folder import Run
from cuma.tuner.config import CumaConfig
from cuma.tuner.manifest import sha256

KEY = "adapter.init_from"
UNKNOWN = -1
_LORA = ("r", "lora_alpha", "lora_dropout")
_OPTIONS: dict[str, tuple[str, ...]] = {
    "cuma": tuple(option.name for option in fields(MixtureOptions)),
    "lora": _LORA,
    "dora": _LORA,
    "prefix": ("num_virtual_tokens",),
    "full": (),
}
"""Method → keys of the recipe's section that its configuration has by the same name."""
Misfit = tuple[str, Any, Any]
"""A recipe's key; what the adapter has; what the recipe says."""


@dataclass(frozen=True)
class Start:
    """The adapter that the first stage starts from."""

    folder: Path
    config: PeftConfig
    strict: bool
    """Whether it must have SHA-256 sums."""
    run: Run | None
    """The run that left it; None: an adapter alone."""

    def entry(self) -> dict[str, Any]:
        """What run.json records of it: enough to know it again."""
        name = self.folder.name if self.run is None else self.run.info["name"]
        return {"name": name, "sha256": sha256(self.folder / SAFETENSORS_WEIGHTS_NAME)}

    def licences(self) -> dict[str, str]:
        """Under which licences stands what it was trained on, as far as it says so."""
        if self.run is None:
            return {f"adapter {self.folder.name}": "unknown"}
        return dict(self.run.info.get("licences", {}))

    def read_by(self, materials: Materials) -> Materials:
        """The parts with the very encoder that the adapter was trained with: its commit, and its values of fields."""
        spec = (
            self.config.profile_encoder if isinstance(self.config, CumaConfig) and self.config.needs_profile else None
        )
        if not spec:
            return materials
        return replace(materials, encode=partial(_table, spec, materials))


def start_of(recipe: Recipe) -> Start | None:
    """The adapter that a recipe starts from; None: a fresh one.

    Raises:
        RecipeError: nothing of the kind is there, it holds no adapter, or it does not fit: each key is named.
        AdapterError: its configuration cannot be read. RunError: the run is not trained.
    """
    if recipe.adapter.init_from is None:
        return None
    path = Path(recipe.adapter.init_from).expanduser()
    if path.name == "adapter" and (path.parent / "run.json").is_file():
        path = path.parent
    run = Run.open(path) if (path / "run.json").is_file() else None
    if run is not None and "adapter" in run.info:  # of an adapter from elsewhere, which was measured
        path, run = Path(run.info["adapter"]["folder"]), None
    if run is None and not (path / CONFIG_NAME).is_file():
        raise RecipeError(
            f"{KEY} is {recipe.adapter.init_from!r}, where there is neither a run (run.json) nor an adapter "
            f"({CONFIG_NAME}). Name the folder of a trained run, or of an adapter that PEFT saved."
        )
    if run is not None:
        require_trained(run)
    source = Source.of_adapter(path) if run is None else Source.of_run(run)
    if source.adapter is None or source.config is None:
        raise RecipeError(f"{KEY} is {recipe.adapter.init_from!r}, a run of the untouched model: it holds no adapter.")
    if not (source.adapter / SAFETENSORS_WEIGHTS_NAME).is_file():
        raise AdapterError(f"{source.adapter} has no {SAFETENSORS_WEIGHTS_NAME}. Pickled weights are refused.")
    theirs = None if run is None else load_recipe(run.path / "recipe.yaml")
    misfits = [
        *_base(source, theirs, recipe),
        *_adapter(source.config, theirs, recipe),
        *_encoder(source.config, recipe),
    ]
    if misfits:
        _refuse(misfits, recipe, run)
    return Start(source.adapter, source.config, source.needs_sums, run)


def _refuse(misfits: list[Misfit], recipe: Recipe, run: Run | None) -> None:
    told = "; ".join(f"{key} is {there!r} there and {here!r} here" for key, there, here in misfits)
    way = "" if run is None else f" Its own recipe fits: {run.path / 'recipe.yaml'}."
    raise RecipeError(
        f"{KEY} is {recipe.adapter.init_from!r}, which does not fit this recipe: {told}. Set these keys as they are "
        f"there, or start from another adapter.{way}"
    )


def _base(source: Source, theirs: Recipe | None, recipe: Recipe) -> Iterator[Misfit]:
    """The frozen model, and what a run's recipe says of how it was asked."""
    there, here = source.backbone, recipe.backbone
    if not _same_model(there.model_name_or_path, here.model_name_or_path):
        yield "backbone.model_name_or_path", there.model_name_or_path, here.model_name_or_path
    if None not in (there.revision, here.revision) and there.revision != here.revision:
        yield "backbone.revision", there.revision, here.revision
    if theirs is None:
        return
    if there.chat_template != here.chat_template:
        yield "backbone.chat_template", _template(there.chat_template), _template(here.chat_template)
    if theirs.data.shuffle_profiles != recipe.data.shuffle_profiles:
        yield "data.shuffle_profiles", theirs.data.shuffle_profiles, recipe.data.shuffle_profiles


def _same_model(one: str, other: str) -> bool:
    folders = [Path(name).expanduser() for name in (one, other)]
    return one == other or (all(map(Path.is_dir, folders)) and folders[0].resolve() == folders[1].resolve())


def _template(text: str | None) -> str:
    return "the model's own" if text is None else f"one of {len(text)} characters"


def _adapter(config: PeftConfig, theirs: Recipe | None, recipe: Recipe) -> Iterator[Misfit]:
    """Method, layers, modules, and the options that every method has of its own."""
    adapter = recipe.adapter
    if (method := _method(config)) != adapter.method:
        yield "adapter.method", method, adapter.method
        return
    for name in _OPTIONS[method]:
        if getattr(config, name) != getattr(adapter, name):
            yield f"adapter.{name}", getattr(config, name), getattr(adapter, name)
    layers = _layers(config) if theirs is None else theirs.adapter.last_layers
    if method != "prefix" and layers not in (UNKNOWN, adapter.last_layers):
        yield "adapter.last_layers", layers, adapter.last_layers
    modules = getattr(config, "target_modules", None)
    if method not in ("prefix", "full") and modules != set(adapter.target_modules):
        there = modules if isinstance(modules, str) else sorted(modules or ())
        yield "adapter.target_modules", there, sorted(adapter.target_modules)


def _layers(config: PeftConfig) -> int | None:
    """How many layers it adapts; None: all; `UNKNOWN`: its tensors tell, and are checked when they are loaded."""
    if getattr(config, "modules_to_save", None):
        return UNKNOWN
    layers = getattr(config, "layers_to_transform", None)
    return layers if layers is None else 1 if isinstance(layers, int) else len(layers)


def _method(config: PeftConfig) -> str:
    """The method of a recipe that makes such a configuration, or PEFT's name of one that recipes do not know."""
    if isinstance(config, CumaConfig):
        return "cuma"
    if isinstance(config, PrefixTuningConfig):
        return "prefix"
    if isinstance(config, LoraConfig):
        whole = config.target_modules in (DUMMY_TARGET_MODULES, {DUMMY_TARGET_MODULES}, [DUMMY_TARGET_MODULES])
        return "full" if whole else "dora" if config.use_dora else "lora"
    return str(config.peft_type.value)


def _encoder(config: PeftConfig, recipe: Recipe) -> Iterator[Misfit]:
    """Who made the embeddings that a router was trained on; without a name, at least how wide they are."""
    if not isinstance(config, CumaConfig) or not config.needs_profile:
        return
    spec, here = config.profile_encoder, recipe.encoder
    if not spec:
        encoder = ProfileEncoder.from_pretrained(here.model_name_or_path, revision=here.revision)
        if encoder.dim != config.profile_dim or here.fields:
            yield "encoder (profile_dim)", config.profile_dim, "more, with fields" if here.fields else encoder.dim
        return
    if spec["id"] != here.model_name_or_path:
        yield "encoder.model_name_or_path", spec["id"], here.model_name_or_path
    if here.revision not in (None, spec.get("revision")):
        yield "encoder.revision", spec.get("revision"), here.revision
    if (spec.get("template") or "{profile}") != here.template:
        yield "encoder.template", spec.get("template"), here.template
    if bool(spec.get("fields")) != here.fields:
        yield "encoder.fields", bool(spec.get("fields")), here.fields


def _table(spec: dict[str, Any], materials: Materials) -> ProfileTable:
    return ProfileTable(ProfileEncoder.from_spec(spec), [group.profile for group in materials.survey.groups])


def check_same_start(run: Run, start: Start) -> None:
    """Raise RunError where a run that goes on began with another adapter than the one that lies there now."""
    before = run.info.get("init_from")
    if before is not None and before["sha256"] != start.entry()["sha256"]:
        raise RunError(
            f"{run.path} began with another adapter than {start.folder} now holds. Put that one back, or train into "
            "another --output-dir."
        )
