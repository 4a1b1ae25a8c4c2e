"""What a recipe names, loaded: the model, the survey, the profiles' embeddings. Shared by runs that name the same."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

from torch import Tensor

from cuma.answering.loading import frozen_backbone
from cuma.data.catalog import is_folder, load_benchmark
from cuma.data.corpus import Corpus
from cuma.data.surveys.survey import Group, OptionOrders, Survey
from cuma.errors import BenchmarkError
from cuma.models.backbones import BACKBONES, Backbone
from cuma.models.trunk import FrozenTrunk
from cuma.people.encoder import ProfileEncoder
from cuma.people.profile_table import ProfileTable
from cuma.people.profiles import Profile
from cuma.recipes.schema import Recipe

SHUFFLE_SEED = 0
"""Seed of the control's permutation: one fixed permutation, whatever the training seed."""


class Data(NamedTuple):
    """A benchmark, loaded."""

    survey: Survey
    corpus: Corpus | None
    """The built folder that it came from, if it came from one."""


@dataclass(eq=False)
class Materials:
    """The loaded parts of a recipe. Nothing in here is ever trained."""

    backbone: Backbone
    survey: Survey
    encode: Callable[[], ProfileTable]
    """Loads the encoder and embeds all groups' profiles; see `table`."""
    names: tuple[Any, ...]
    """What was loaded, to check that a recipe names the same."""
    corpus: Corpus | None = None
    """The built folder that the recipe names, if it names one."""
    trunks: dict[int, dict[bytes, Tensor]] = field(default_factory=dict)
    """Kept outputs of frozen lower layers, by number of layers (see `cuma.models.trunk`)."""
    kept: dict[str, Any] = field(default_factory=dict)
    """What is worked out of these parts once, by who does (see `cuma.evaluation.question_sheet`)."""

    @classmethod
    def load(cls, recipe: Recipe, data: Data | None = None) -> Materials:
        """Load everything `recipe` names.

        data: its benchmark, if it is loaded already.

        Raises:
            BackboneError, BenchmarkError: something is not there; the text says how to get it.
        """
        survey, corpus = data or load_survey(recipe)
        return cls(frozen_backbone(recipe.backbone), survey, partial(_table, recipe, survey), _names(recipe), corpus)

    @cached_property
    def table(self) -> ProfileTable:
        """Raw embeddings of all groups' profiles. Made when it is first read: an untouched model needs no encoder."""
        return self.encode()

    @property
    def encoder_spec(self) -> dict[str, Any]:
        """Which encoder made them."""
        return dict(self.table.encoder.spec)

    def provenance(self) -> dict[str, Any]:
        """What a run records of where its parts come from: backbone, data (source, citation, licence) and licences."""
        card = self.survey.card
        name, revision = self.backbone.name, self.backbone.revision
        hub_id = BACKBONES[name].hub_id if name in BACKBONES else (name if revision else None)  # a folder has neither
        return {
            "backbone": {"name": name, "hub_id": hub_id, "revision": revision, "licence": self.backbone.licence},
            "data": {key: card[key] for key in ("source", "citation", "licence")},
            "licences": {self.backbone.name: self.backbone.licence, self.survey.name: card["licence"]},
        }

    def fit(self, recipe: Recipe) -> bool:
        """True if `recipe` names exactly what was loaded."""
        return self.names == _names(recipe)

    def table_for(self, recipe: Recipe) -> ProfileTable | None:
        """The embeddings the recipe's router reads: none, the true ones, or the control's shuffled ones."""
        if not recipe.adapter.reads_profile:
            return None
        return self.table.shuffled(SHUFFLE_SEED) if recipe.data.shuffle_profiles else self.table

    def group_embeds(self, table: ProfileTable, roles: tuple[str, ...]) -> Tensor:
        """[G, D] raw embeddings of the groups with one of `roles`, in the survey's order."""
        return table([group.profile for group in self.survey.groups if group.role in roles])

    def kept_trunk(self, recipe: Recipe, model: Any) -> contextlib.AbstractContextManager[Any]:
        """The context in which frozen lower layers run once per prompt, if the recipe wants that.

        Re-entrant, so that a learning curve can be measured while training.
        """
        if not recipe.backbone.keep_frozen_layers:
            return contextlib.nullcontext()
        depth = self.backbone.model.config.num_hidden_layers
        shared = None if recipe.adapter.last_layers is None else max(0, depth - recipe.adapter.last_layers)
        return FrozenTrunk(model, self._trunk_store, max_depth=shared)

    def _trunk_store(self, depth: int) -> dict[bytes, Tensor]:
        """Where runs keep what the lowest `depth` layers make of each prompt."""
        return self.trunks.setdefault(depth, {})


def load_survey(recipe: Recipe) -> Data:
    """The benchmark that `recipe` names, and the built folder that it came from, if it names one.

    Raises:
        BenchmarkError: it is not there.
    """
    data = recipe.data
    return survey_of(data.benchmark, data.split_seed, data.language, data.option_orders)


def survey_of(benchmark: str, seed: int = 0, language: str = "", option_orders: OptionOrders = "rotations") -> Data:
    """A benchmark by name, split by `seed`, or a built folder, whose split is its own. Raises as `load_survey`."""
    if not is_folder(benchmark):
        if language:
            raise BenchmarkError(f"{benchmark} has its questions in English only: leave data.language out.")
        return Data(load_benchmark(benchmark, seed=seed).shown(option_orders), None)
    corpus = Corpus.open(benchmark, option_orders)
    return Data(corpus.survey(language).shown(option_orders), corpus)


def _table(recipe: Recipe, survey: Survey) -> ProfileTable:
    encoder = ProfileEncoder.from_pretrained(
        recipe.encoder.model_name_or_path, revision=recipe.encoder.revision, template=recipe.encoder.template
    )
    return ProfileTable(as_routed(encoder, recipe, survey.groups), [group.profile for group in survey.groups])


def as_routed(encoder: ProfileEncoder, recipe: Recipe, groups: Sequence[Group]) -> ProfileEncoder:
    """The encoder as a recipe's fresh router reads it: beside the sentence the fields of the groups that train, if the
    recipe says so and one of them has a field."""
    seen = _seen_profiles(groups)
    reads = recipe.encoder.fields and any(profile.fields for profile in seen)
    return encoder.with_fields(seen) if reads else encoder


def require_fields(recipe: Recipe, survey: Survey) -> None:
    """Raises `BenchmarkError` where a fresh router is to read fields of profiles, and no group that trains has one."""
    if recipe.encoder.fields and not any(profile.fields for profile in _seen_profiles(survey.groups)):
        raise BenchmarkError(
            f"encoder.fields is true, and no group of {recipe.data.benchmark} has a profile field in common. Set "
            "encoder.fields=false, or build the data with groups whose people share a field."
        )


def _seen_profiles(groups: Sequence[Group]) -> list[Profile]:
    return [group.profile for group in groups if group.role == "seen"]


def _names(recipe: Recipe) -> tuple[Any, ...]:
    backbone, encoder = recipe.backbone, recipe.encoder
    return (
        replace(backbone, keep_frozen_layers=False),
        (recipe.data.benchmark, recipe.data.split_seed, recipe.data.language, recipe.data.option_orders),
        (encoder.model_name_or_path, encoder.revision, encoder.template, encoder.fields),
    )


def profile_in_prompt(recipe: Recipe) -> bool:
    """True if the recipe's prompts say who asks."""
    return recipe.data.profile_in in ("prompt", "both")
