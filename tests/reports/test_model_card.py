"""The model card: its figures are the evaluation's, no small group is in it, and it says what it does not know."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from cuma.metrics import score
from cuma.metrics.figures import number
from cuma.recipes.load import load_recipe
from cuma.reports.model_card import write_model_card
from helpers import ROOT
from helpers.synthetic import METHODS, QUESTIONS, Population, population, write_run

CFF = ROOT / "CITATION.cff"
BY_NAME = {recipe.name: recipe for recipe in METHODS}
SMALL = 7


def small_groups(number: int) -> int:
    """People of group i: two groups of one side are too small to be shown."""
    return SMALL if number in (3, 4) else 60


def make(folder: Path, name: str, world: Population, **info: Any) -> Path:
    """A synthetic run with what training, and a real scoring, leave behind."""
    path = write_run(folder, BY_NAME[name], world)
    (path / "recipe.yaml").write_text(load_recipe(f"quickstart/gss/{info.pop('recipe', 'cuma')}").to_yaml())
    (path / "adapter").mkdir()
    config = {"base_model_name_or_path": "org/base", "profile_encoder": {"id": "org/encoder"}}
    (path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    (evaluation,) = (path / "evaluations").iterdir()
    scores = score(pd.read_parquet(evaluation / "predictions.parquet"), QUESTIONS, draws=40)
    (evaluation / "scores.json").write_text(json.dumps({"benchmark": "gss", **scores, "questions": QUESTIONS}))
    groups = {group: 30 for i, group in enumerate(world.groups[:50]) if small_groups(i) != SMALL}
    run = json.loads((path / "run.json").read_text())
    run |= {
        "backbone": {"name": "org/base", "hub_id": "org/base", "revision": "abc", "licence": "mit"},
        "data": {"source": "a survey", "citation": "Somebody (2020)", "licence": "CC-BY-NC-4.0"},
        "population": {
            "questions": QUESTIONS,
            "people": 1500,
            "groups": groups,
            "hidden_groups": 2,
            "profile_fields": {"sex": ["Female", "Male"], "party": ["a|b", "<i>c</i>"]},
        },
    }
    (path / "run.json").write_text(json.dumps(run | info))
    return path


@pytest.fixture(scope="module")
def small_world() -> Population:
    return population(small_groups)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, small_world: Population) -> Path:
    """A run with one anchor beside it."""
    folder = tmp_path_factory.mktemp("carded")
    make(folder, "anchor-counts", small_world)
    return make(folder, "cuma", small_world)


@pytest.fixture(scope="module")
def card(run: Path) -> str:
    return write_model_card(run, "somebody/values").read_text(encoding="utf-8")


def rows(card: str, heading: str) -> list[list[str]]:
    """The cells of the first table after a heading."""
    text = card.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_metadata_are_what_the_hub_reads(card: str) -> None:
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["base_model"] == "org/base"
    assert metadata["library_name"] == "peft"
    assert metadata["pipeline_tag"] == "text-generation"
    assert metadata["license"] == "other"
    assert "cuma" in metadata["tags"]
    assert "This is an adapter: a mixture of LoRA experts over" in " ".join(card.split())


def test_results_are_the_scores(run: Path, card: str) -> None:
    (evaluation,) = (run / "evaluations").iterdir()
    scores = json.loads((evaluation / "scores.json").read_text())
    table = {row[0]: row[1:] for row in rows(card, "Results")}
    for place, side in enumerate(("seen", "unseen")):
        entry = scores[side]["soft_emd"]
        shown = f"{number(entry['value'])} [{number(entry['low'])}, {number(entry['high'])}]"
        assert table["Soft EMD ↓"][place] == shown
    assert table["Soft EMD of the anchor “own training counts”"][1] == "—"
    assert table["Soft EMD of the anchor “own training counts”"][0].startswith("0.")


def test_small_groups_are_nowhere_and_the_others_average_to_the_score(
    run: Path, card: str, small_world: Population
) -> None:
    hidden = [group for i, group in enumerate(small_world.groups) if small_groups(i) == SMALL]
    assert [group for group in hidden if group in card] == []
    listed = rows(card, "Groups")[2:]
    assert len(listed) == 63
    unseen = [float(row[4]) for row in listed if row[1] == "no"]
    (evaluation,) = (run / "evaluations").iterdir()
    expected = json.loads((evaluation / "scores.json").read_text())["unseen"]["soft_emd"]["value"]
    assert sum(unseen) / len(unseen) == pytest.approx(expected, abs=6e-4)  # printed with three digits
    assert "2 groups were tested whose figures are not shown" in card


def test_a_side_of_one_small_group_has_no_figures(tmp_path: Path) -> None:
    world = population(lambda i: 5 if i == 50 else 0 if i > 50 else 20)
    text = write_model_card(make(tmp_path / "one", "cuma", world)).read_text(encoding="utf-8")
    assert "Of unseen groups fewer than 11 people were tested, so that no figure is shown." in text
    assert {len(row) for row in rows(text, "Results")} == {2}
    assert "- Unseen groups" not in text
    tiny = population(lambda i: 5 if i in (0, 50) else 0)
    text = write_model_card(make(tmp_path / "none", "cuma", tiny)).read_text(encoding="utf-8")
    assert rows(text, "Results") == []
    assert "In short" not in text


def test_a_run_without_an_evaluation_says_so(tmp_path: Path, small_world: Population) -> None:
    path = make(tmp_path, "cuma", small_world, status="trained")
    for file in path.glob("evaluations/*/predictions.parquet"):
        file.unlink()
    card = write_model_card(path).read_text(encoding="utf-8")
    assert "**Not evaluated.**" in card
    assert "In short" not in card
    assert {row[4] for row in rows(card, "Groups")[2:]} == {"—"}


def test_foreign_text_stays_inside_its_cell(card: str) -> None:
    table = {row[0]: row[1:] for row in rows(card, "Who it was trained on")}
    assert table["`party`"] == [r"a\|b · &lt;i&gt;c&lt;/i&gt;"]


def test_a_local_base_model_is_not_named_by_its_path(tmp_path: Path, small_world: Population) -> None:
    backbone = {"name": "/home/jane/models/mine", "hub_id": None, "revision": None, "licence": "unknown"}
    card = write_model_card(make(tmp_path, "cuma", small_world, backbone=backbone)).read_text(encoding="utf-8")
    assert "jane" not in card
    assert "base_model" not in yaml.safe_load(card.split("---")[1])
    assert "not on the Hub" in card


@pytest.mark.parametrize(
    ("recipe", "words", "never"),
    [
        ("cuma", ["profile_embeds=encoder([who])"], "persona=who.sentence"),
        ("lora", ["persona=who.sentence", "into the prompt"], "profile_embeds"),
        ("semantic", ["persona=who.sentence"], "profile_embeds"),
        ("shuffled", ["A control, not a model to use"], "persona=who.sentence"),
    ],
)
def test_every_method_is_used_as_it_was_trained(
    recipe: str, words: list[str], never: str, tmp_path: Path, small_world: Population
) -> None:
    card = write_model_card(make(tmp_path, "cuma", small_world, recipe=recipe)).read_text(encoding="utf-8")
    assert [word for word in words if word not in card] == []
    assert never not in card
    compile(re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)[0], "card", "exec")


@pytest.mark.parametrize("recipe", ["baselines/gss/full", "baselines/gss/prefix", "baselines/gss/dora"])
def test_every_method_has_a_card(recipe: str, tmp_path: Path, small_world: Population) -> None:
    path = make(tmp_path, "cuma", small_world, recipe="lora")
    (path / "recipe.yaml").write_text(load_recipe(recipe).to_yaml())
    assert load_recipe(recipe).adapter.method in recipe
    assert "This is an adapter: " in write_model_card(path).read_text(encoding="utf-8")


@pytest.mark.parametrize(("recipe", "in_prompt"), [("cuma", False), ("lora", True)])
def test_a_run_trained_on_conversations_is_used_in_one(
    recipe: str, in_prompt: bool, tmp_path: Path, small_world: Population
) -> None:
    path = make(tmp_path, "cuma", small_world, recipe=recipe)
    info = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(info | {"population": info["population"] | {"questions": []}}))
    card = write_model_card(path).read_text(encoding="utf-8")
    used = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)[0]
    compile(used, "card", "exec")
    assert "model.generate(" in used
    assert ("told_who_asks" in used) == in_prompt
    assert "on conversations." in card


@pytest.mark.parametrize(
    ("stages", "questions", "words"),
    [
        ("sft", True, []),
        ("sft, dpo", True, ["prefer people's own answers to others.", "towards the most frequent one"]),
        ("sft, grpo", True, ["agreement with people's own answers.", "towards the most frequent one"]),
        ("sft, dpo", False, ["trained on conversations, to", "prefer the replies that people chose to others."]),
    ],
)
def test_the_card_says_what_each_stage_trained_for(
    stages: str, questions: bool, words: list[str], tmp_path: Path, small_world: Population
) -> None:
    path = make(tmp_path, "cuma", small_world)
    epochs = ("training.max_steps=null", "training.num_train_epochs=3", "dpo.max_steps=null", "dpo.num_train_epochs=1")
    asked = (f"pipeline=[{stages}]", "training.lr_scheduler_type=constant", *epochs)
    (path / "recipe.yaml").write_text(load_recipe("quickstart/gss/cuma", asked).to_yaml())
    info = json.loads((path / "run.json").read_text())
    if not questions:
        (path / "run.json").write_text(json.dumps(info | {"population": info["population"] | {"questions": []}}))
    card = write_model_card(path).read_text(encoding="utf-8")
    assert [word for word in words if word not in card] == []
    assert ("It was trained to reproduce how **groups**" in card) == ("**mean of a group**" in card) == questions
    assert ("towards the most frequent one" in card) == (questions and stages != "sft")
    settings = {row[0]: row[1] for row in rows(card, "Training")}
    assert settings["SFT"].startswith("3 epochs in steps of 16 rows,")
    if "dpo" in stages:
        assert settings["DPO"].startswith("1 epoch in steps of ")
    if "grpo" in stages:
        assert settings["GRPO"].startswith("50 steps of ")


def test_the_citation_is_the_one_of_the_software(card: str) -> None:
    cff = yaml.safe_load(CFF.read_text(encoding="utf-8"))
    assert cff["title"] in card
    assert cff["preferred-citation"]["title"] in card
    assert cff["preferred-citation"]["url"] in card
