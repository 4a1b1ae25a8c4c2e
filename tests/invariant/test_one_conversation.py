"""A conversation is put to a model in one way: the same tokens in every stage of training, evaluation, chat, server and
export, with a template that lacks something and without any."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from cuma.answering import Answerers
from cuma.answering.materials import Materials
from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.data.surveys.prompts import survey_messages
from cuma.evaluation.asking import asking_of, load_model
from cuma.evaluation.evaluate import evaluate_subject
from cuma.evaluation.subject import subject_of_run
from cuma.exchange.calibration import Task, rows_of
from cuma.people.profiles import Profile
from cuma.recipes.load import load_recipe
from cuma.runs.folder import read_json
from cuma.serving.opinions import OpinionBatch
from cuma.serving.service import chat_prompt
from cuma.training.stages import stage_trainer
from cuma.training.train import _model, train_run
from helpers.folders import base_folder

PERU = Profile(country="Peru")
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
OWN = (
    "{% for m in messages %}[{{ m['role'] }}]\n{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]\n{% endif %}"
)
EXPECTED = {
    "system": "<user>You are a person living in Peru.\n\n{}\n<assistant>",
    "none": "You are a person living in Peru.\n\n{}\n\nAnswer:\n",
    "brought": "[system]\nYou are a person living in Peru.\n[user]\n{}\n[assistant]\n",
}
SHORT = (
    "pipeline=[sft,dpo,grpo]", "adapter.method=lora", "adapter.last_layers=1", "data.profile_in=prompt",
    "backbone.keep_frozen_layers=false", "training.save_steps=100", "training.curve_steps=[]",
    *(f"{stage}.{key}" for stage in ("training", "dpo", "grpo")
      for key in ("max_steps=1", "per_device_train_batch_size=2")),
    "training.lr_scheduler_type=constant", "training.warmup_steps=0", "grpo.num_generations=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A survey of invented people, all of one group: its prompts are few."""
    folder = tmp_path_factory.mktemp("data")
    asked = {"question": "May one lie?", "options": ["Yes", "No"], "group": "Peru", "profile": PERU.fields}
    rows = [{**asked, "person_id": str(number), "answer": number % 2} for number in range(60)]
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    build("own", folder / "mine.jsonl", folder / "built", Options())
    return folder / "built"


@pytest.fixture(params=EXPECTED)
def words(request: pytest.FixtureRequest, data: Path, tmp_path: Path) -> tuple[str, tuple[str, ...]]:
    """Which template, and a recipe's overrides."""
    base = base_folder(tmp_path / "base")
    template = base / "chat_template.jinja"
    assert template.is_file()
    template.unlink()
    chosen = (f"data.benchmark={data}", f"backbone.model_name_or_path={base}", *SHORT)
    if request.param == "system":
        template.write_text(NO_SYSTEM, encoding="utf-8")
    elif request.param == "brought":
        (tmp_path / "own.jinja").write_text(OWN, encoding="utf-8")
        chosen += (f"backbone.chat_template={tmp_path / 'own.jinja'}",)
    return request.param, chosen


def test_every_door_puts_the_same_tokens(
    words: tuple[str, tuple[str, ...]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name, overrides = words
    recipe = load_recipe("quickstart/gss/cuma", overrides)
    with caplog.at_level(logging.WARNING):
        materials = Materials.load(recipe)
    assert ("no chat template" in caplog.text) == (name == "none")
    run = train_run(recipe, tmp_path / "run", materials)
    question = materials.survey.questions[0]
    decode = materials.backbone.tokenizer.decode
    expected = {EXPECTED[name].format(survey_messages(question, order)[1]["content"]) for order in ((0, 1), (1, 0))}
    for stage in recipe.pipeline:
        trainer = stage_trainer(stage, recipe, tmp_path / stage, _model(recipe, materials, None, None), materials, None)
        rows = list(trainer.train_dataset)
        tokens = {
            "sft": lambda rows: [row["input_ids"] for row in rows],
            "dpo": lambda rows: [row["prompt_ids"] for row in rows],
            "grpo": lambda rows, trainer=trainer: trainer._tokenize_prompts([row["prompt"] for row in rows])[0],
        }[stage](rows)
        assert {decode(ids) for ids in tokens} == expected, stage
        trainer.model.unload()
    subject = subject_of_run(run.path)
    with load_model(subject, materials) as model:
        asking = asking_of(model, recipe, materials, materials.survey)
        prompts = [survey_messages(question, order, PERU.sentence) for order in ((0, 1), (1, 0))]
        assert {decode(asking.tokens.prompt(prompt)) for prompt in prompts} == expected
    folder = evaluate_subject(subject, materials)
    assert read_json(folder / "scores.json")["asked"].get("template") == ("plain" if name == "none" else None)
    answerer = Answerers(device="cpu").load(run.path)
    asked = OpinionBatch(answerer, question.text, question.options, [PERU])
    assert {decode(ids) for ids in asked.prompts} == expected
    rows = rows_of(answerer, [Task(question=question)], PERU)
    assert {decode(row.tokens) for row in rows} == expected
    typed: list[Any] = [[{"role": "user", "content": prompt[1]["content"]}] for prompt in prompts]
    assert {decode(chat_prompt(answerer, answerer.messages(each, PERU))) for each in typed} == expected
    talks = [Task((*each, {"role": "assistant", "content": "A"})) for each in typed]
    for row, prompt in zip(rows_of(answerer, talks, PERU), map(sorted, [expected] * 2), strict=True):
        assert any(decode(row.tokens).startswith(f"{each}A") for each in prompt)
