"""What is measured, and how it is asked: a run, any PEFT adapter, any local or Hub model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from peft import PeftConfig
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME

from cuma.answering.loading import Source, require_trained
from cuma.data.catalog import check_benchmark, is_folder
from cuma.data.surveys.survey import OptionOrders
from cuma.errors import AdapterError, RunError
from cuma.models.backbones import BACKBONES
from cuma.models.hub import locate
from cuma.recipes.load import build_recipe, load_recipe
from cuma.recipes.schema import Recipe
from cuma.runs.folder import Run
from cuma.runs.machine import hardware, versions
from cuma.tuner.config import CumaConfig
from cuma.tuner.manifest import sha256

Prompting = Literal["persona", "none", "few_shot"]
SHOTS = 4
"""Answers of other people of the group that few-shot shows."""
MEASURED = Path("runs/measured")


@dataclass(frozen=True)
class Subject:
    """A run, and the recipe by which it is asked: its own, or one with another benchmark or prompting."""

    run: Run
    recipe: Recipe

    @property
    def prompting(self) -> Prompting:
        """What the prompt says about the person."""
        data = self.recipe.data
        return "few_shot" if data.exemplars else "persona" if data.profile_in in ("prompt", "both") else "none"

    @property
    def protocol(self) -> dict[str, Any]:
        """What scores.json says of how it was asked: its prompting, and the orders of options where they are fewer."""
        orders = self.recipe.data.option_orders
        return {"prompting": self.prompting} | ({} if orders == "rotations" else {"option_orders": orders})

    @property
    def folder(self) -> Path:
        """Where its evaluation is, or its replies. Raises RunError if there is neither yet."""
        own = next(iter(sorted((self.run.path / "evaluations").glob(f"*-{self.recipe.digest}"))), None)
        if own is None:
            raise RunError(f"{self.run.path} is not evaluated like this yet. Run `cuma evaluate` on it first.")
        return own

    @property
    def source(self) -> Source:
        """What is loaded. Raises as `require_local`."""
        return Source.of_run(self.run, self.recipe)

    def require_local(self) -> None:
        """Raises RunError for a model behind a server, UnsupportedError for an anchor."""
        Source.of_run(self.run, self.recipe)


def subject_of_run(folder: Path, benchmark: str | None = None, prompting: Prompting | None = None) -> Subject:
    """A run, asked as its recipe says, or otherwise.

    Raises:
        RunError: it is no run, or not trained yet.
        BenchmarkError: there is no such benchmark.
    """
    run = Run.open(folder)
    require_trained(run)
    return Subject(run, recipe_with(load_recipe(folder / "recipe.yaml"), benchmark, prompting))


def with_orders(subject: Subject, option_orders: OptionOrders | None) -> Subject:
    """The same, its questions asked in these orders of their options; None: as its recipe says."""
    if option_orders is None:
        return subject
    recipe = subject.recipe
    return replace(subject, recipe=replace(recipe, data=replace(recipe.data, option_orders=option_orders)))


def recipe_with(recipe: Recipe, benchmark: str | None, prompting: Prompting | None) -> Recipe:
    """The recipe with another benchmark or prompting; a router keeps reading profiles."""
    data = recipe.data
    if benchmark is not None:
        check_benchmark(benchmark)
        data = replace(data, benchmark=benchmark)
    if prompting is not None:
        routed = data.profile_in in ("router", "both")
        places = ("prompt", "both") if prompting == "persona" else ("nowhere", "router")
        exemplars = SHOTS if prompting == "few_shot" else 0
        data = replace(data, profile_in=cast(Any, places[routed]), exemplars=exemplars)
    backbone = recipe.backbone
    if data.exemplars and not recipe.data.exemplars:  # hardly two prompts are the same
        backbone = replace(backbone, keep_frozen_layers=False)
    return replace(recipe, data=data, backbone=backbone)


def subject_of_model(
    model: str,
    benchmark: str,
    prompting: Prompting,
    folder: Path | None = None,
    *,
    batch_size: int | None = None,
    **backbone: Any,
) -> Subject:
    """A model that is no run: an adapter, or whatever `load_backbone` takes. Its run is made, or goes on.

    Args:
        model: the folder, name or Hub id; a revision is the adapter's, whose configuration may name one of its base.
        benchmark: name or folder.
        prompting: what the prompt says about the person.
        folder: the run's; None: one in `MEASURED`.
        batch_size: prompts at once; None: as a recipe has it.
        backbone: further options of the recipe's section.

    Raises:
        AdapterError: the adapter does not say which model it belongs to.
        BackboneError: there is no such model here, and none can be fetched.
        RunError: the folder holds another run.
    """
    info: dict[str, Any] = {}
    reading: dict[str, Any] = {} if batch_size is None else {"batch_size": batch_size}
    tree: dict[str, Any] = {"adapter": {"method": "none"}, "kind": "untrained", "evaluation": reading}
    name, where = model, "nowhere"
    kept = Path(model) if model in BACKBONES else locate(model, backbone.get("revision"), BACKBONES).folder
    if (kept / CONFIG_NAME).is_file():
        source = Source.of_adapter(kept)
        name, backbone = source.backbone.model_name_or_path, {**backbone, "revision": source.backbone.revision}
        info = {"adapter": _about(kept, source.config)}
        reading["padding_side"] = source.padding_side
        if isinstance(source.config, CumaConfig):
            tree |= _mixture(source.config)
            where = "router" if source.config.needs_profile else "nowhere"
    tree |= {
        "backbone": {"model_name_or_path": name, **backbone},
        "data": {"benchmark": benchmark, "profile_in": where},
    }
    recipe = recipe_with(build_recipe({"name": "measured", **tree}, model), benchmark, prompting)
    return measured_run(recipe, Path(model).name, prompting, folder, info)


def _about(folder: Path, config: PeftConfig) -> dict[str, str]:
    """What the run of an adapter from elsewhere records of it."""
    weights = folder / SAFETENSORS_WEIGHTS_NAME
    if not weights.is_file():
        raise AdapterError(f"{folder} has no {SAFETENSORS_WEIGHTS_NAME}. Pickled weights are refused; save it anew.")
    return {"folder": str(folder.resolve()), "peft_type": str(config.peft_type.value), "sha256": sha256(weights)}


def _mixture(config: CumaConfig) -> dict[str, Any]:
    """What a recipe must say of a mixture so that its router gets its profiles."""
    spec = config.profile_encoder or {}
    encoder = {
        "model_name_or_path": spec.get("id") or "minilm",
        "revision": spec.get("revision"),
        "template": spec.get("template") or "{profile}",
        "fields": bool(spec.get("fields")),
    }
    adapter = {"method": "cuma", "router_input": config.router_input, "num_experts": config.num_experts}
    return {"adapter": {**adapter, "top_k": config.top_k}, "encoder": encoder, "kind": "trained"}


def _slug(text: str, otherwise: str) -> str:
    """What of a name may stand in a recipe's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._") or otherwise


def measured_run(
    recipe: Recipe, model: str, prompting: Prompting, folder: Path | None, info: Mapping[str, Any]
) -> Subject:
    """The run of a model that is no run, made if it is absent.

    Raises:
        RunError: the folder holds another run.
    """
    benchmark = (
        Path(recipe.data.benchmark).resolve().name if is_folder(recipe.data.benchmark) else recipe.data.benchmark
    )
    routed = recipe.data.profile_in in ("router", "both")
    name = f"{_slug(model, 'model')}-{_slug(benchmark, 'data')}-{prompting}" + ("-routed" if routed else "")
    words = {"persona": "persona", "none": "told nothing", "few_shot": "few-shot"}[prompting]
    if routed:
        words = "routed" if prompting == "none" else f"routed, {words}"
    label = f"{model} ({words})"
    recipe = replace(recipe, name=name, label=label, description=f"Measured as it is, on {benchmark}: {words}.")
    folder = folder or MEASURED / name
    identity = {**info, "digest": recipe.digest}
    if (folder / "run.json").exists():
        run = Run.open(folder)
        if {key: run.info.get(key) for key in identity} != identity:
            raise RunError(f"{folder} holds another run. Choose another --output-dir, or delete the folder.")
        return Subject(run, recipe)
    about = {
        "name": folder.name, "label": label, "description": recipe.description, "kind": "measured", "seed": recipe.seed,
        "status": "trained", "trainable_parameters": None, "versions": versions(), "hardware": hardware(),
    }  # fmt: skip
    return Subject(Run.create(folder, recipe.to_yaml(), {**about, **identity}), recipe)
