"""Reading recipes: a YAML file or a packaged name, what it takes over from its `base`, and overrides."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cuma.errors import RecipeError, suggestion
from cuma.recipes import strict_yaml
from cuma.recipes.methods import METHODS
from cuma.recipes.schema import IDENTITY, SECTIONS, Recipe

__all__ = ["Recipe", "build_recipe", "load_recipe", "packaged_recipes"]

PACKAGED = Path(__file__).parent


def packaged_recipes() -> dict[str, Path]:
    """The recipes that come with cuma: name ("quickstart/gss/cuma") → file."""
    return {file.relative_to(PACKAGED).with_suffix("").as_posix(): file for file in sorted(PACKAGED.rglob("*.yaml"))}


def load_recipe(path_or_name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe: a YAML file or a packaged name, then `overrides` such as "training.learning_rate=1e-3".

    Raises:
        RecipeError: no such recipe; an unknown key; a value that is not allowed; options that contradict each other.
    """
    file = _find(str(path_or_name), Path())
    tree = _read_with_bases(file, ())
    tree.setdefault("name", _default_name(file))
    source = str(path_or_name)
    for override in overrides:
        section, key, value = _parse_override(override)
        if section:
            tree.setdefault(section, {})[key] = value
        else:
            tree[key] = value
    return build_recipe(tree, source if not overrides else f"{source} with {' '.join(overrides)}")


def _find(name: str, folder: Path) -> Path:
    """A file, seen from `folder`, or else a packaged recipe."""
    file = folder / name
    if file.is_file():
        return file
    packaged = packaged_recipes()
    if name not in packaged:
        hint = suggestion(name, packaged, listed_by="cuma list recipes")
        raise RecipeError(f"There is no recipe {name!r}: no such file, and no such name. {hint}")
    return packaged[name]


def _default_name(file: Path) -> str:
    packaged = {path: name for name, path in packaged_recipes().items()}
    return packaged.get(file, re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip(".-_") or "recipe")


def _read_with_bases(file: Path, chain: tuple[Path, ...]) -> dict[str, Any]:
    """A file's keys over those of its `base`, which may have a base of its own."""
    chain = (*chain, file.resolve())
    if chain.count(file.resolve()) > 1:
        raise RecipeError(f"Recipes are each other's base: {' → '.join(path.name for path in chain)}. Cut the circle.")
    tree = _read(file)
    base = tree.pop("base", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise RecipeError(f"'base' in {file} is {base!r}; expected a recipe's name or file.")
    below = _read_with_bases(_find(base, file.parent), chain)
    whole = {key: value for key, value in below.items() if key not in IDENTITY}
    for key, value in tree.items():
        whole[key] = {**whole.get(key, {}), **value} if key in SECTIONS else value
    return whole


def _read(file: Path) -> dict[str, Any]:
    """One file's keys, all of them known."""
    try:
        tree = strict_yaml.parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"Cannot read {file}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{file} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    except strict_yaml.StrictYamlError as error:
        raise RecipeError(f"{file}: {error}.") from error
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise RecipeError(f"{file} holds {_kind(tree)}, expected 'key: value' lines.")
    for key, value in tree.items():
        if key not in SECTIONS:
            _require_known(key, "", file, extra=("base",))
            continue
        if not isinstance(value, dict | None):
            raise RecipeError(f"{key!r} in {file} is {_kind(value)}, expected keys below it: {_listed(_keys(key))}.")
        for inner in value or {}:
            _require_known(inner, key, file)
    return {key: {} if key in SECTIONS and value is None else value for key, value in tree.items()}


def _parse_override(text: str) -> tuple[str, str, Any]:
    """ "training.max_steps=50" → ("training", "max_steps", 50); a top-level key has the section ""."""
    name, equals, value = text.partition("=")
    section, _, key = name.strip().rpartition(".")
    if not equals or name.strip() in SECTIONS:
        raise RecipeError(f"Cannot read {text!r}: write key=value, for example training.max_steps=50.")
    if section and section not in SECTIONS:
        raise RecipeError(f"unknown section {section!r} in {text!r}. {suggestion(section, SECTIONS)}")
    _require_known(key, section, "the command line")
    try:
        return section, key, strict_yaml.parse(value)
    except strict_yaml.StrictYamlError as error:
        raise RecipeError(f"Cannot read the value in {text!r}: {error}.") from error


def _keys(section: str) -> list[str]:
    return [item.name for item in fields(SECTIONS[section] if section else Recipe)]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(names))


def _require_known(key: Any, section: str, source: Path | str, extra: tuple[str, ...] = ()) -> None:
    known = [*_keys(section), *extra]
    if key in known:
        return
    dot = f"{section}." if section else ""
    close = [dot + name for name in difflib.get_close_matches(str(key), known, n=1)]
    elsewhere = [f"{other}.{key}" for other in SECTIONS if key in _keys(other)]  # the right word in the wrong place
    hint = next((f"Did you mean {name!r}? " for name in elsewhere + close), "")
    available = _listed([dot + name for name in known])
    raise RecipeError(
        f"unknown key '{dot}{key}' in {source}. {hint}Available: {available}. `cuma list keys` explains all of them."
    )


def build_recipe(tree: Mapping[str, Any], source: str) -> Recipe:
    """A recipe from sections and keys as a file has them. source: what errors call it. Raises RecipeError."""
    values = {**tree, "label": tree.get("label") or tree["name"]}
    values["backbone"] = _with_template(values.get("backbone", {}), source)
    for name, section in SECTIONS.items():
        values[name] = _validated(section, values.get(name, {}), f"{name}.", source)
    recipe: Recipe = _validated(Recipe, values, "", source)
    _require_consistent(recipe, source)
    return recipe


def _with_template(backbone: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """A chat template's text in the place of its file: a run needs the file no more, and its digest tells."""
    name = backbone.get("chat_template")
    if not isinstance(name, str) or _is_jinja(name):
        return backbone
    try:
        text = Path(name).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"{source}: 'backbone.chat_template' is {name!r}, which cannot be read ({type(error).__name__}); expected "
            "a file with a Jinja template."
        ) from error
    if not _is_jinja(text):
        raise RecipeError(f"{source}: 'backbone.chat_template' is {name!r}, and that file holds no Jinja template.")
    return {**backbone, "chat_template": text}


def _is_jinja(text: str) -> bool:
    return "{%" in text or "{{" in text


def _validated(kind: type, values: Mapping[str, Any], prefix: str, source: str) -> Any:
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = prefix + ".".join(str(part) for part in first["loc"])
        expected = (
            first["msg"]
            .removeprefix("Value error, ")
            .replace("Input should be", "expected")
            .replace("String should", "expected to")
        )
        raise RecipeError(
            f"{key!r} in {source} is {first['input']!r} ({_kind(first['input'])}); {expected.removesuffix('.')}."
        ) from error


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "a boolean", int: "a number", float: "a number"}
    return "empty" if value is None else names.get(type(value), type(value).__name__)


def _require_consistent(recipe: Recipe, source: str) -> None:
    """Refuse what could only run by ignoring one of two options."""
    method, where = recipe.adapter.method, recipe.data.profile_in
    reads_profile = recipe.adapter.reads_profile
    if (method == "none") != (recipe.kind == "untrained"):
        raise RecipeError(
            f"{source}: 'kind' is {recipe.kind!r} but 'adapter.method' is {method!r}. "
            "Method 'none' goes with kind 'untrained', the others with 'trained'."
        )
    if reads_profile != (where in ("router", "both")):
        wanted = "'router' or 'both'" if reads_profile else "'prompt' or 'nowhere'"
        router = f" with 'adapter.router_input' {recipe.adapter.router_input!r}" if method == "cuma" else ""
        raise RecipeError(
            f"{source}: 'data.profile_in' is {where!r}, but 'adapter.method' {method!r}{router} needs {wanted}."
        )
    if recipe.data.shuffle_profiles and not reads_profile:
        raise RecipeError(
            f"{source}: 'data.shuffle_profiles' permutes the router's profiles, and this recipe has none. "
            "Set it to false, or 'data.profile_in' to 'router'."
        )
    if recipe.training.profile_dropout and (where == "nowhere" or recipe.data.shuffle_profiles):
        conflict = "'data.shuffle_profiles'" if recipe.data.shuffle_profiles else "'data.profile_in' 'nowhere'"
        raise RecipeError(
            f"{source}: 'training.profile_dropout' leaves fields out of profiles, which {conflict} makes meaningless. "
            "Set it to 0."
        )
    if method == "cuma" and recipe.adapter.top_k > recipe.adapter.num_experts:
        raise RecipeError(
            f"{source}: 'adapter.top_k' is {recipe.adapter.top_k}, expected at most "
            f"'adapter.num_experts', {recipe.adapter.num_experts}."
        )
    _require_method(recipe, source)
    _require_length(recipe, source)
    _require_passes_and_curve(recipe, source)
    _require_pipeline(recipe, source)
    replies = recipe.grpo.per_device_train_batch_size * recipe.grpo.gradient_accumulation_steps
    if replies % recipe.grpo.num_generations:
        raise RecipeError(
            f"{source}: 'grpo.per_device_train_batch_size' times 'grpo.gradient_accumulation_steps' is {replies}, "
            f"expected a multiple of 'grpo.num_generations', {recipe.grpo.num_generations}: one step holds whole sets "
            "of replies."
        )
    if recipe.backbone.keep_frozen_layers and recipe.training.gradient_checkpointing:
        raise RecipeError(
            f"{source}: 'backbone.keep_frozen_layers' and 'training.gradient_checkpointing' are both true, but what is "
            "kept is not there when layers are run again. Set one of them to false."
        )
    if recipe.grpo.reward == "judge" and not recipe.judge.model:
        raise RecipeError(f"{source}: 'grpo.reward' is 'judge', but 'judge.model' names no model. Name the judge.")


def _require_pipeline(recipe: Recipe, source: str) -> None:
    start = recipe.adapter.init_from
    if start is not None and recipe.adapter.method == "none":
        raise RecipeError(
            f"{source}: 'adapter.init_from' is {start!r}, but 'adapter.method' is 'none'. Set it to null."
        )
    if len(set(recipe.pipeline)) < len(recipe.pipeline) or (start is None and recipe.pipeline[0] != "sft"):
        raise RecipeError(
            f"{source}: 'pipeline' is {list(recipe.pipeline)}, expected sft first and no stage twice, such as "
            "[sft, dpo]. To begin with dpo or grpo, name what it starts from, a trained run or an adapter: "
            "adapter.init_from=FOLDER."
        )


def _require_method(recipe: Recipe, source: str) -> None:
    """What full fine-tuning, a prefix and few-shot cannot be combined with, and why."""
    method = recipe.adapter.method
    for wrong, todo in METHODS[method].conflicts(recipe):
        if wrong:
            raise RecipeError(f"{source}: 'adapter.method' is {method!r}; {todo}.")
    if recipe.data.exemplars and method != "none":
        raise RecipeError(
            f"{source}: 'data.exemplars' is {recipe.data.exemplars}, but 'adapter.method' is {method!r}. Few-shot is "
            "for the untouched model: set 'data.exemplars' to 0, or 'adapter.method' to none."
        )


def _require_length(recipe: Recipe, source: str) -> None:
    for name, stage in (("training", recipe.training), ("dpo", recipe.dpo), ("grpo", recipe.grpo)):
        if (stage.max_steps is None) == (stage.num_train_epochs is None):
            raise RecipeError(
                f"{source}: '{name}.max_steps' is {stage.max_steps} and '{name}.num_train_epochs' is "
                f"{stage.num_train_epochs}. Set exactly one of them; the other is null."
            )
        if stage.lr_scheduler_type == "warmup_stable_decay" and stage.max_steps is None:
            raise RecipeError(
                f"{source}: '{name}.lr_scheduler_type' warmup_stable_decay needs '{name}.max_steps', to know its end."
            )


def _require_passes_and_curve(recipe: Recipe, source: str) -> None:
    training = recipe.training
    if training.item_dropout and training.max_steps is None:
        raise RecipeError(
            f"{source}: 'training.item_dropout' is {training.item_dropout} and 'training.max_steps' null. Items are "
            "drawn for each pass over the rows beforehand: set max_steps in the place of num_train_epochs."
        )
    if training.early_stopping_patience and not training.curve_steps:
        raise RecipeError(
            f"{source}: 'training.early_stopping_patience' is {training.early_stopping_patience} and "
            "'training.curve_steps' is empty. Name the steps at which the error is measured, such as [100, 200, 300]."
        )
