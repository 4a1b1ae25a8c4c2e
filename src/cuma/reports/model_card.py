"""The model card: what a reader on the Hub must know of an adapter, from a run's folder alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from cuma.errors import RunError
from cuma.metrics.figures import effect_text, estimate_text
from cuma.metrics.nearness import UNSEEN, nearness_sentence
from cuma.privacy.small_groups import MIN_PEOPLE, people_text
from cuma.recipes.load import load_recipe
from cuma.recipes.methods import METHODS
from cuma.recipes.schema import Recipe
from cuma.reports.conversation_tables import NOTE as REPLIES_NOTE
from cuma.reports.conversation_tables import listings_of
from cuma.reports.corner_table import FLOOR, NOTE, corner_rows_of, corner_sentences, shown_corners, told_anchors
from cuma.reports.formats import markdown_listing
from cuma.reports.group_rows import group_rows
from cuma.reports.method_and_data import design_sentence
from cuma.reports.tables import COLUMNS, DRAWN, UNKNOWN, Column, few_sentences, shown_sides
from cuma.runs.evidence import read_evaluation
from cuma.runs.folder import Run, read_json, write_text
from cuma.runs.group_answers import hidden_groups

CARD_NAME = "README.md"
SUPPRESSED = "—"
SHOWN_METRICS = ("soft_emd", "noise_floor", "spread", "alignment", "accuracy", "option_mass")
PROMPT_LANGUAGE = "en"
"""The instructions around every question are English (cuma.data.surveys.prompts)."""
RECORDED = ("backbone", "data", "population")
"""Keys of run.json that a card cannot do without."""


@dataclass(frozen=True)
class ResultRow:
    """One row of the results: a name, and a text for each side (seen, unseen)."""

    name: str
    texts: tuple[str, ...]


def write_model_card(folder: str | Path, repo_id: str | None = None) -> Path:
    """Write README.md into the run's adapter folder, in place of PEFT's empty one, and return its path.

    The adapter's manifest does not list the card: an adapter with a card is as whole as one without.

    Args:
        folder: the run's.
        repo_id: where the adapter will live on the Hub, for the code on the card; None: a placeholder.

    Raises:
        RunError: the run is not trained, has nothing to publish, or was made before runs recorded their population.
    """
    run = Run.open(folder)
    check_trained(run)
    path = run.adapter / CARD_NAME
    write_text(path, str(model_card(run, repo_id)))
    return path


def check_trained(run: Run) -> None:
    """Raise RunError if there is no finished adapter, or run.json does not say enough of it for a card."""
    if run.info["status"] not in ("trained", "evaluated"):
        raise RunError(f"{run.path} is not trained yet (status {run.info['status']!r}). Run `cuma train` on it first.")
    if not (run.adapter / "adapter_config.json").is_file():
        raise RunError(f"{run.path} has no adapter: a run of kind {run.info['kind']!r} leaves nothing to publish.")
    missing = [key for key in RECORDED if key not in run.info]
    if missing:
        raise RunError(
            f"{run.path / 'run.json'} lacks {', '.join(missing)}: it was made with an older version. Train it again."
        )


def model_card(run: Run, repo_id: str | None = None) -> ModelCard:
    """The card of a trained run."""
    recipe = load_recipe(run.path / "recipe.yaml")
    environment = Environment(
        loader=PackageLoader("cuma.reports"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )  # Markdown, so nothing is escaped by itself: texts of other people's go through `plain`
    environment.filters |= {"plain": _plain, "literal": repr, "tuple": tuple}
    text = environment.get_template("model_card.md.j2").render(
        run=run.info,
        recipe=recipe,
        repo_id=repo_id or "YOUR-NAME/YOUR-REPOSITORY",
        method=METHODS[recipe.adapter.method].description,
        adapter=read_json(run.adapter / "adapter_config.json"),
        base=_base_name(run),
        packaged=run.info["backbone"]["hub_id"] not in (None, run.info["backbone"]["name"]),
        reads_profile=recipe.adapter.reads_profile,
        dashed=SUPPRESSED,
        replies_note=REPLIES_NOTE,
        min_people=MIN_PEOPLE,
        **_people_and_results(run, recipe),
    )
    return ModelCard(f"---\n{_metadata(run).to_yaml()}\n---\n\n{text}")


def _metadata(run: Run) -> ModelCardData:
    """The Hub's own fields. Nobody but its publisher can license an adapter, so the card names the terms."""
    return ModelCardData(
        base_model=run.info["backbone"]["hub_id"],
        base_model_relation="adapter" if run.info["backbone"]["hub_id"] else None,
        library_name="peft",
        pipeline_tag="text-generation",
        language=PROMPT_LANGUAGE,
        license="other",
        license_name="terms-of-base-model-and-data",
        tags=["cuma", "peft", "mixture-of-experts", "pluralistic-alignment", "survey", "arxiv:2601.04885"],
    )


def _base_name(run: Run) -> str:
    """How the card names the base model: never by a path on somebody's machine."""
    backbone = run.info["backbone"]
    return backbone["hub_id"] or Path(backbone["name"]).name


def _people_and_results(run: Run, recipe: Recipe) -> dict[str, Any]:
    population = run.info["population"]
    facts: dict[str, Any] = {
        "population": population,
        "trained_on": _trained_on(population),
        "evaluated": False,
        "chose": any((run.path / "evaluations").glob("*/discrimination.parquet")),
    }
    talked = run.chosen_with("conversations.parquet")
    found = [] if talked is None else [(run.info["label"], read_json(talked / "conversations.json"))]
    facts["conversations"] = [markdown_listing(listing) for listing in listings_of(found)]
    folder = run.chosen_with("predictions.parquet")
    if folder is None:
        return facts | {"rows": group_rows(population["groups"], None)}
    evidence, scores = read_evaluation(run, folder), read_json(folder / "scores.json")
    rows = group_rows(population["groups"], evidence)
    sides = shown_sides(evidence)
    new_items = any(corner in scores.get("corners", {}) for corner in UNSEEN)
    return facts | {
        "evaluated": True,
        "rows": rows,
        "unlisted": len(hidden_groups(evidence.people)),
        "sides": sides,
        "few": few_sentences(evidence),
        "short": {
            side: {key: _figure({"value": scores[side].get(key, UNKNOWN)["value"]}, key) for key in SHOWN_METRICS}
            for side in sides
        },
        "headings": [_heading(side, scores["n"][side]) for side in sides],
        "results": [_figures(scores, key, sides) for key in SHOWN_METRICS],
        "meanings": [_column(key, evidence.of_shares or new_items) for key in SHOWN_METRICS],
        "of_shares": evidence.of_shares,
        "drawn": DRAWN[evidence.of_shares or new_items][0],
        "new_items": new_items,
        "design_sentence": design_sentence(evidence),
        "anchors": _anchors(run, recipe, scores, sides),
        "corners": corner_rows_of(scores),
        "corner_sentences": corner_sentences(shown_corners(scores.get("corners", {})), evidence.of_shares),
        "nearness": nearness_sentence(evidence.held_out_items) if evidence.held_out_items else "",
        "corner_note": f"{NOTE} {FLOOR}",
    }


def _trained_on(population: dict[str, Any]) -> str:
    """ "1,204 people in 12 groups", or of groups whose shares were published how many cells."""
    people, groups = population["people"], len(population["groups"]) + population["hidden_groups"]
    if "shares" in population:
        return (
            f"Published shares of {groups} groups, {population['shares']:,} cells (one group’s answers to one question)"
        )
    return f"{f'fewer than {MIN_PEOPLE}' if people is None else people_text(people)} people in {groups} groups"


def _heading(side: str, sizes: dict[str, Any]) -> str:
    groups = sizes["groups"]
    of = f"{people_text(sizes['people'])} people" if "people" in sizes else f"{sizes['questions']} questions"
    effect = effect_text(sizes.get("design_effect"))
    return f"{side.capitalize()}: {groups} group{'' if groups == 1 else 's'}, {of}" + (f", {effect}" if effect else "")


def _column(metric: str, items_drawn: bool = False) -> Column:
    return next(column for column in COLUMNS if column.key == metric).filled(items_drawn=items_drawn)


def _figures(scores: Mapping[str, Any], metric: str, sides: list[Any], name: str | None = None) -> ResultRow:
    return ResultRow(
        name or _column(metric).heading,
        tuple(_figure(scores.get(side, {}).get(metric, UNKNOWN), metric) for side in sides),
    )


def _figure(entry: dict[str, Any], metric: str) -> str:
    """A figure with its 95 % interval where `entry` has one; a mark where a method says nothing of a side."""
    if entry["value"] is None:
        return SUPPRESSED
    digits = 3 if metric in ("soft_emd", "noise_floor") else 2
    return estimate_text(entry, digits) + (" ⚠" if entry.get("low_mass") else "")


def _anchors(run: Run, recipe: Recipe, scores: dict[str, Any], sides: list[Any]) -> list[ResultRow]:
    """Soft EMD of the anchors whose runs lie beside this one and answered for the same people, and of those that stand
    in its own scores."""
    rows = []
    for file in sorted(run.path.resolve().parent.glob("*/run.json")):
        other = Run.open(file.parent)
        folder = other.chosen_with("predictions.parquet")
        if other.info["kind"] != "anchor" or folder is None:
            continue
        data, theirs = load_recipe(other.path / "recipe.yaml").data, read_json(folder / "scores.json")
        same = (data.benchmark, data.split_seed) == (recipe.data.benchmark, recipe.data.split_seed)
        if same and all(theirs["n"].get(side, scores["n"][side]) == scores["n"][side] for side in sides):
            rows.append(_figures(theirs, "soft_emd", sides, other.info["label"]))
    there = {row.name for row in rows}
    own = [anchor for anchor in told_anchors(scores) if anchor["label"] not in there]
    return rows + [_figures(anchor, "soft_emd", sides, anchor["label"]) for anchor in own]


def _plain(value: Any) -> str:
    """Text from data or recipes as one line of Markdown: no table cell, tag or heading of its own."""
    text = " ".join(str(value).split())
    return re.sub(r"([|`*_\[\]#])", r"\\\1", text).replace("<", "&lt;").replace(">", "&gt;")
