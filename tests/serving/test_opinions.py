"""/v1/opinions says what `cuma evaluate` measures, for the same question and people, on the real model; and a run's
prompts are those that it was trained with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pandas as pd
import pytest
import torch
from peft import get_peft_model

from cuma import CumaConfig
from cuma.answering.adapter_files import save_adapter, take_off
from cuma.answering.answerer import Answerer, Answerers
from cuma.answering.materials import Materials
from cuma.data.surveys.survey import Question
from cuma.evaluation.evaluate import evaluate_run
from cuma.evaluation.poll import PollRows
from cuma.people.profiles import Profile
from cuma.recipes.load import load_recipe
from cuma.recipes.schema import Recipe
from cuma.runs.folder import Run
from cuma.serving.engine import Engine
from cuma.serving.opinions import OpinionBatch, ask
from helpers.served import serving, tiny_answerer

QUESTIONS, GROUPS = 1, 3


def recipe(*overrides: str) -> Recipe:
    return load_recipe("quickstart/gss/cuma", ("adapter.last_layers=2", *overrides))


@pytest.fixture(scope="module")
def materials() -> Materials:
    return Materials.load(recipe())


def make_run(folder: Path, made: Recipe, materials: Materials) -> Run:
    """A run as training leaves one, whose B is random, so that people and questions matter."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [28, 29]}
    model = get_peft_model(
        materials.backbone.model,
        CumaConfig(
            profile_dim=materials.table.encoder.dim,
            profile_encoder=dict(materials.table.encoder.spec),
            init_weights=False,
            lora_alpha=160,
            profile_scale=20.0,
            **options,
        ),
    )
    model.fit_profiles(materials.group_embeds(materials.table, ("seen",)))
    run = Run.create(folder, made.to_yaml(), {"status": "trained"})
    save_adapter(model, run.adapter)
    take_off(model)
    return run


@pytest.fixture(scope="module", params=["router", "both"])
def evaluated(
    request: pytest.FixtureRequest, materials: Materials, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Answerer, pd.DataFrame]:
    """A run, answering, and what `cuma evaluate` found of a few groups and questions."""
    made = recipe(f"data.profile_in={request.param}")
    run = make_run(tmp_path_factory.mktemp("runs") / "cuma", made, materials)
    survey = materials.survey
    kept = [group.id for group in survey.groups if group.role == "seen"][:GROUPS]
    people = survey.people[survey.people["group"].isin(kept)]
    questions = survey.questions[:QUESTIONS]
    few = type(survey)(
        survey.name,
        questions,
        tuple(group for group in survey.groups if group.id in kept),
        people[["person", "group", "part", *(question.id for question in questions)]].reset_index(drop=True),
        survey.card,
    )
    small = replace(materials, survey=few)
    evaluate_run(run.path, small)
    (folder,) = run.evaluations()
    return Answerers(device="cpu").load(run.path), pd.read_parquet(folder / "predictions.parquet")


def test_opinions_are_what_evaluate_measures(evaluated: tuple[Answerer, pd.DataFrame], materials: Materials) -> None:
    answerer, measured = evaluated
    profiles = {group.id: group.profile for group in materials.survey.groups}
    cells = measured.drop_duplicates(["group", "question_id"]).set_index(["question_id", "group"])
    said = []
    with serving([answerer]) as (url, _), httpx2.Client(base_url=url, timeout=120) as client:
        for question in materials.survey.questions[:QUESTIONS]:
            rows = cells.loc[question.id]
            people = [profiles[group].fields for group in rows.index]
            body = {"question": question.text, "options": list(question.options), "profiles": people, "routing": True}
            reply = client.post("/v1/opinions", json=body).json()
            for (_, row), opinion in zip(rows.iterrows(), reply["data"], strict=True):
                np.testing.assert_allclose(opinion["probabilities"], row["probabilities"], atol=1e-5)
                assert opinion["option_mass"] == pytest.approx(row["option_mass"], abs=1e-5)
                assert len(opinion["experts"]) == 2
                said.append(opinion["probabilities"][0])
    assert np.ptp(said) > 1e-3, "the people must matter, or this test says nothing"


def test_a_population_is_its_people_weighted() -> None:
    body = {"question": "Should it be legal?", "options": ["Yes", "Perhaps", "No"]}
    people = [{"country": "Peru"}, None, "A nurse"]
    with serving([tiny_answerer()]) as (url, _), httpx2.Client(base_url=url, timeout=120) as client:
        alike = client.post("/v1/opinions", json=body | {"profiles": people}).json()
        each = np.array([entry["probabilities"] for entry in alike["data"]])
        np.testing.assert_allclose(alike["population"]["probabilities"], each.mean(0), atol=1e-12)
        weights = [3.0, 0.0, 1.0]
        members = [{"profile": who, "weight": weight} for who, weight in zip(people, weights, strict=True)]
        weighted = client.post("/v1/opinions", json=body | {"population": members}).json()
    np.testing.assert_allclose(weighted["population"]["probabilities"], np.average(each, 0, weights), atol=1e-9)


def test_people_do_not_depend_on_who_is_asked_with_them() -> None:
    answerer = tiny_answerer()
    people = [Profile(country="Peru"), Profile(), Profile(description="A nurse from a small town by the sea")]
    with Engine([answerer]) as engine:

        def asked(who: list[Profile]) -> list[np.ndarray]:
            return [each.probabilities for each in ask(OpinionBatch(answerer, "Tea?", ["Yes", "No"], who), engine.call)]

        for together, person in zip(asked(people), people, strict=True):
            np.testing.assert_allclose(together, asked([person])[0], atol=1e-5)


def test_a_scale_is_shown_as_the_model_was_trained_to_see_it() -> None:
    answerer = tiny_answerer()
    natural = replace(answerer, source=replace(answerer.source, option_orders="natural"))
    scale = ["Cold", "Cool", "Warm", "Hot"]
    shown = {
        (orders, ordinal): len(OpinionBatch(one, "Tea?", scale, [Profile()], ordinal=ordinal).prompts)
        for orders, one in (("rotations", answerer), ("natural", natural))
        for ordinal in (True, False)
    }
    assert shown == {("rotations", True): 4, ("rotations", False): 4, ("natural", True): 2, ("natural", False): 4}
    rows = PollRows([Question("tea", "Tea?", tuple(scale), True, option_orders="natural")], [Profile()], False)
    assert [row["order"] for row in rows] == [[0, 1, 2, 3], [3, 2, 1, 0]]
