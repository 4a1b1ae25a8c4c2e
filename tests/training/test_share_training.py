"""Training on published shares: the same loss as on the people behind them, from the command line to the card."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from cuma.answering.letters import SurveyTokens, survey_loss
from cuma.cli import app
from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.data.corpus import Corpus, Shares
from cuma.data.surveys.cells import share_cells, survey_cells
from cuma.data.surveys.survey import Group, Question, Survey
from cuma.errors import BenchmarkError
from cuma.models.backbones import load_backbone
from cuma.people.profiles import FIELDS, Profile
from cuma.recipes.load import load_recipe
from cuma.recipes.schema import Recipe
from cuma.runs.folder import Run, read_json
from cuma.training.batches import SurveyCollator, tokenise_cells
from cuma.training.population import population_of_shares
from cuma.training.stages import require_rows, stage_rows
from helpers.make_opinions import COUNTRIES, write_opinions

QUESTIONS = (
    Question("tea", "Tea?", ("Yes", "No"), False),
    Question("rain", "Does it rain?", ("Never", "Sometimes", "Often"), True),
)
SMALL = [
    "adapter.last_layers=1",
    "training.max_steps=2",
    "training.per_device_train_batch_size=4",
    "training.curve_steps=[2]",
    "training.warmup_steps=0",
    "training.logging_steps=1",
]


def people_and_shares() -> tuple[Survey, Shares]:
    """Three groups of 6, 11 and 30 people, and what a publisher would print of them."""
    rng = np.random.default_rng(0)
    rows = [(f"Country {size}", "train", rng.integers(2), rng.integers(3)) for size in (6, 11, 30) for _ in range(size)]
    people = pd.DataFrame(rows, columns=["group", "part", "tea", "rain"])
    people.insert(0, "person", range(len(people)))
    groups = tuple(Group(f"Country {size}", Profile(country=f"Country {size}"), "seen") for size in (6, 11, 30))
    survey = Survey("made", QUESTIONS, groups, people, {})
    profiles = {group.id: {name: getattr(group.profile, name) for name in FIELDS} for group in groups}
    table = survey.counts("train", ["seen"]).assign(seen=True)
    table["n"] = table["counts"].map(sum)
    table["shares"] = [counts / n for counts, n in zip(table["counts"], table["n"], strict=True)]
    table["profile"] = table["group"].map(profiles)
    return survey, Shares(QUESTIONS, table.drop(columns="counts"))


def gradient(cells: Any, tokens: SurveyTokens, counts: bool) -> tuple[Tensor, Tensor]:
    """The loss of all cells as one batch, and its gradient in made-up logits."""
    rows = tokenise_cells(cells, tokens, counts)
    batch = SurveyCollator(tokens, None)(rows.to_list())
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(len(rows), len(tokens.tokenizer), generator=generator).requires_grad_()
    loss = survey_loss(logits, batch["answer_tokens"], batch["answer_weights"])
    (found,) = torch.autograd.grad(loss, logits)
    return loss, found


@pytest.mark.parametrize("counts", [False, True])
def test_shares_train_as_the_people_they_are_of(counts: bool) -> None:
    survey, shares = people_and_shares()
    tokens = SurveyTokens(load_backbone("smollm2-135m").tokenizer)
    of_people = survey_cells(survey, "train", ["seen"], profile_in_prompt=True)
    of_shares = share_cells(shares, profile_in_prompt=True, counts=counts)
    assert of_shares["prompt"] == of_people["prompt"]
    assert of_shares["profile"] == of_people["profile"]
    wanted, found = gradient(of_people, tokens, counts), gradient(of_shares, tokens, counts)
    for one, other in zip(wanted, found, strict=True):
        torch.testing.assert_close(one, other)
    assert not torch.allclose(found[1], gradient(of_shares, tokens, not counts)[1]) or not counts


def test_with_as_many_people_everywhere_distribution_and_counts_are_one() -> None:
    _, shares = people_and_shares()
    alike = Shares(shares.questions, shares.table.assign(n=200))
    tokens = SurveyTokens(load_backbone("smollm2-135m").tokenizer)
    both = [
        gradient(share_cells(alike, profile_in_prompt=False, counts=counts), tokens, counts) for counts in (False, True)
    ]
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other)


def test_the_loss_is_cross_entropy_and_least_at_the_shares() -> None:
    shares = torch.tensor([[0.2, 0.5, 0.3]])
    logits = torch.full((1, 8), -torch.inf)
    logits[0, :3] = shares.log()
    at = logits.clone().nan_to_num(neginf=-60.0).requires_grad_()
    loss = survey_loss(at, torch.tensor([[0, 1, 2]]), shares)
    assert loss.item() == pytest.approx(float(-(shares * shares.log()).sum()))  # the entropy: KL divergence is 0
    (slope,) = torch.autograd.grad(loss, at)
    assert slope.abs().max() < 1e-6


@pytest.fixture(scope="module")
def opinions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("opinions")
    options = Options(holdout=(("country", "Japan"),), holdout_items=0.2)
    build("global_opinions", write_opinions(home / "data.csv", 10, COUNTRIES[:5]), home / "built", options)
    return home / "built"


def own(folder: Path, n: int | None) -> Path:
    rows = [
        {"question": f"What of {topic}?", "options": ["good", "bad"], "distribution": [0.3, 0.7], "country": country,
         **({} if n is None else {"n": n + place})}
        for place, country in enumerate(("Peru", "Kenya", "Japan"))
        for topic in ("trains and trams", "loud music", "cold rain", "school meals", "old houses", "new taxes")
    ]  # fmt: skip
    source = folder / "mine.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)))
    build("own", source, folder / "built", Options())
    return folder / "built"


def recipe(folder: Path, *overrides: str) -> Recipe:
    return load_recipe("default", (f"data.benchmark={folder}", *overrides))


def parts(folder: Path) -> Any:
    corpus = Corpus.open(folder)
    backbone = SimpleNamespace(tokenizer=load_backbone("smollm2-135m").tokenizer)
    return SimpleNamespace(corpus=corpus, survey=corpus.survey(), backbone=backbone)


@pytest.mark.parametrize(
    ("stage", "loss", "words"),
    [
        (
            "sft",
            "letter",
            r"training\.loss is 'letter', which needs single people's answers\. Set training\.loss=distr",
        ),
        ("sft", "counts", r"is 'counts', which needs n, how many people .* Set training\.loss=distribution"),
        ("dpo", "distribution", r"only sft can train on it\. Leave dpo out of the pipeline"),
    ],
)
def test_what_shares_cannot_do_is_told_with_a_way_out(tmp_path: Path, stage: str, loss: str, words: str) -> None:
    folder = own(tmp_path, None)
    with pytest.raises(BenchmarkError, match=words):
        require_rows(stage, recipe(folder, f"training.loss={loss}"), parts(folder))


def test_shares_that_say_of_how_many_people_they_are_can_be_counted(tmp_path: Path) -> None:
    folder = own(tmp_path, 50)
    rows = stage_rows("sft", recipe(folder, "training.loss=counts"), parts(folder))
    assert {round(sum(row["answer_weights"])) for row in rows} == {50, 51, 52}
    rows = stage_rows("sft", recipe(folder, "training.loss=distribution"), parts(folder))
    assert {round(sum(row["answer_weights"]), 9) for row in rows} == {1.0}
    with pytest.raises(BenchmarkError, match="survey weights"):
        stage_rows("sft", recipe(folder, "training.loss=distribution", "data.survey_weights=true"), parts(folder))
    dropped = stage_rows(
        "sft", recipe(folder, "training.loss=distribution", "training.profile_dropout=1"), parts(folder)
    )
    assert not any(value for row in dropped for value in row["profile"].values())


def test_small_groups_of_shares_are_not_recorded() -> None:
    _, shares = people_and_shares()
    found = population_of_shares(shares)
    assert found["groups"] == {"Country 30": 30}
    assert found["hidden_groups"] == 2
    assert found["people"] is None
    assert found["shares"] == 6
    unknown = population_of_shares(Shares(shares.questions, shares.table.drop(columns="n")))
    assert unknown["groups"] == dict.fromkeys(["Country 11", "Country 30", "Country 6"])
    assert unknown["profile_fields"] == {"country": ["Country 11", "Country 30", "Country 6"]}


def test_one_command_trains_on_shares_and_everything_behind_it_works(opinions: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "shares"
    words = ["default", f"data.benchmark={opinions}", "training.loss=distribution", *SMALL, "--output-dir", str(run)]
    for verb in (["train", *words], ["evaluate", str(run)], ["report", str(run)], ["card", str(run)]):
        done = CliRunner().invoke(app, verb)
        assert done.exit_code == 0, done.output
        if verb[0] == "evaluate":
            told = " ".join(done.output.split())
            assert "Unseen items" in told
            assert "training average" in told
    info = Run.open(run).info
    population = info["population"]
    assert population["shares"] > 15
    assert set(population["groups"]) == {"Egypt", "France", "Great Britain", "Mexico"}
    curve = [row["curve"] for row in Run.open(run).stages()[0].read_log() if "curve" in row]
    assert set(curve[0]["corners"]) == {"seen items · seen groups", "unseen items · seen groups"}  # of validation
    (folder,) = Run.open(run).evaluations()
    scores = read_json(folder / "scores.json")
    assert len(scores["corners"]) == 4
    card = (run / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "Published shares of 4 groups" in card
    assert "| Unseen items · unseen groups |" in card
    assert "Soft EMD of the anchor “training average”" in card
    assert "fewer than 11 people in" not in card
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Soft EMD ↓ in the four corners" in page
    assert "cells, shares of 4 groups on" in page
