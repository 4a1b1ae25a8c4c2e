"""A recipe to a scored run on the real model: whole folders, continuing after an interruption, honest numbers."""

from __future__ import annotations

import ast
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from cuma.answering.materials import Materials
from cuma.errors import RunError, UnsupportedError
from cuma.evaluation.evaluate import FIELD_SHARES, evaluate_partial, evaluate_run
from cuma.evaluation.routing import evaluate_topology
from cuma.evaluation.subject import subject_of_run
from cuma.metrics import score
from cuma.people.profiles import Profile
from cuma.recipes.load import load_recipe
from cuma.recipes.schema import Recipe
from cuma.reports import write_report
from cuma.reports.model_card import write_model_card
from cuma.runs.folder import Run, read_json
from cuma.training.checkpoints import SealCheckpoints, newest_whole
from cuma.training.progress import Measure
from cuma.training.stages import stage_rows
from cuma.training.train import open_run, train_run

STAGE = "01-sft"
SMALL = (
    "adapter.last_layers=1",
    "training.max_steps=6",
    "training.save_steps=2",
    "training.logging_steps=1",
    "training.per_device_train_batch_size=4",
    "training.curve_steps=[5]",
)


def recipe(name: str = "cuma", *overrides: str) -> Recipe:
    return load_recipe(f"quickstart/gss/{name}", (*SMALL, *overrides))


def curve(*_: Any) -> Measure:
    return lambda model: {"seen": {"soft_emd": 0.5, "spread": 0.1}}


@pytest.fixture(scope="module")
def materials() -> Materials:
    return Materials.load(recipe())


@pytest.fixture(scope="module")
def run(materials: Materials, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "cuma"
    train_run(recipe(), folder, materials, curve)
    return evaluate_run(folder, materials)


def test_the_folder_is_whole(run: Run) -> None:
    assert run.info["status"] == "evaluated"
    assert run.info["trainable_parameters"] > 0
    for folder in (run.adapter, run.stage(STAGE).adapter):
        assert (folder / "adapter_model.safetensors").is_file()
        assert (folder / "cuma_manifest.json").is_file()
    rows = run.stage(STAGE).read_log()
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4, 5, 6]
    assert all(row["aux_loss"] >= 0.99 for row in rows if "loss" in row)
    assert [row["step"] for row in rows if "curve" in row] == [5]


def test_scores_are_the_predictions_recomputed(run: Run) -> None:
    (folder,) = run.evaluations()
    stored = read_json(folder / "scores.json")
    again = score(pd.read_parquet(folder / "predictions.parquet"), stored["questions"])
    for part in ("seen", "unseen"):
        for metric, numbers in again[part].items():
            assert stored[part][metric] == numbers, (part, metric)
        assert set(stored[part]) - set(again[part]) == {"worst_group", "group_gap", "group_inequity"}
    assert set(stored["by_question"]["seen"]) == {question["id"] for question in stored["questions"]}
    assert stored["asked"]["answers"] == "logits"
    routing = pd.read_parquet(folder / "routing.parquet")
    np.testing.assert_allclose(routing.groupby(["group", "layer"])["gate"].sum(), 1, atol=1e-5)


def test_an_interrupted_run_ends_with_the_same_weights(run: Run, materials: Materials, tmp_path: Path) -> None:
    def interrupt(_: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    folder = tmp_path / "cuma"
    with pytest.raises(KeyboardInterrupt):
        train_run(recipe(), folder, materials, lambda *_: interrupt)
    assert Run.open(folder).info["status"] == "training"
    resumed = train_run(recipe(), folder, materials, curve)
    assert resumed.info["resumed"] is True
    steps = [row["step"] for row in resumed.stage(STAGE).read_log() if "loss" in row]
    assert steps == [1, 2, 3, 4, 5, 6]
    whole, again = (load_file(made.adapter / "adapter_model.safetensors") for made in (run, resumed))
    assert whole.keys() == again.keys()
    for name in whole:
        np.testing.assert_array_equal(whole[name], again[name], err_msg=name)


def test_a_half_written_checkpoint_is_passed_over(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(run.stage(STAGE).checkpoints, folder)
    newest = newest_whole(folder)
    assert newest is not None
    assert newest.name == "checkpoint-6"
    weights = newest / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    older = newest_whole(folder)
    assert older is not None
    assert older.name == "checkpoint-4"
    (older / "sha256.json").unlink()
    assert newest_whole(folder) is None


def test_a_folder_of_another_recipe_is_refused_and_the_keys_that_differ_are_named(
    run: Run, materials: Materials
) -> None:
    said = (
        r"another recipe: adapter.num_experts is 8 there and 4 here; training.learning_rate is 0.00\d+ there and 0.5 "
    )
    with pytest.raises(RunError, match=said):
        train_run(recipe("cuma", "training.learning_rate=0.5", "adapter.num_experts=4"), run.path, materials)


def test_a_run_that_failed_before_its_first_step_makes_way_for_the_corrected_command(
    materials: Materials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr("cuma.training.train.stage_trainer", fails)
        with pytest.raises(MemoryError):
            train_run(recipe(), tmp_path / "run", materials)
    assert not Run.open(tmp_path / "run").begun
    smaller = recipe("cuma", "training.max_steps=2", "training.per_device_train_batch_size=2")
    made = train_run(smaller, tmp_path / "run", materials)
    assert "had not trained a step" in caplog.text
    assert made.info["digest"] == smaller.digest
    assert load_recipe(made.path / "recipe.yaml") == smaller
    assert made.info["status"] == "trained"
    with pytest.raises(RunError, match=r"training\.max_steps is 2 there and 6 here"):
        train_run(recipe(), tmp_path / "run", materials)


@pytest.mark.parametrize("left", ["checkpoint", "row", "stage"])
def test_what_was_trained_is_never_replaced(left: str, materials: Materials, tmp_path: Path) -> None:
    begun = Run.create(tmp_path / "run", recipe().to_yaml(), {"status": "training"})
    if left == "checkpoint":
        (begun.stage(STAGE).checkpoints / "broken-checkpoint-2").mkdir(parents=True)
    elif left == "row":
        begun.stage(STAGE).log({"step": 1, "loss": 2.0})
    else:
        begun.update(stages=[STAGE])
    with pytest.raises(RunError, match="another recipe"):
        train_run(recipe("cuma", "seed=5"), tmp_path / "run", materials)


def test_sharded_weights_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UnsupportedError, match="plain torchrun"):
        train_run(recipe(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_made_before_a_key_existed_goes_on(tmp_path: Path) -> None:
    older = "\n".join(line for line in recipe().to_yaml().splitlines() if "profile_in_experts" not in line)
    Run.create(tmp_path / "run", older, {"status": "training", "digest": "of older keys"})
    assert open_run(recipe(), tmp_path / "run").info["status"] == "training"


def test_answers_are_read_in_one_process(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UnsupportedError, match="without torchrun"):
        evaluate_run(run.path)


def test_an_untrained_run_cannot_be_evaluated(materials: Materials, tmp_path: Path) -> None:
    Run.create(tmp_path / "new", recipe().to_yaml(), {"status": "training"})
    with pytest.raises(RunError, match="not trained"):
        evaluate_run(tmp_path / "new", materials)


def test_a_run_asked_in_another_way_still_has_its_own_evaluation_to_make_and_to_be_reported(
    run: Run, materials: Materials, tmp_path: Path
) -> None:
    shutil.copytree(run.path, tmp_path / "again")
    (own,) = Run.open(tmp_path / "again").evaluations()
    told = own.with_name(f"gss-{subject_of_run(tmp_path / 'again', prompting='persona').recipe.digest}")
    own.rename(told)
    with pytest.raises(RunError, match="not evaluated like this"):
        _ = subject_of_run(tmp_path / "again").folder
    again = evaluate_run(tmp_path / "again", materials)
    assert again.evaluations() == sorted([told, own])
    os.utime(told / "predictions.parquet")  # finished last
    assert again.chosen(again.evaluations()) == own
    assert again.chosen([told]) == told


def test_the_backbone_is_left_as_it_was(run: Run, materials: Materials) -> None:
    names = [name for name, _ in materials.backbone.model.named_modules()]
    assert not [name for name in names if "cuma" in name or "base_layer" in name]


def test_a_run_is_measured_with_parts_of_the_profiles(run: Run, materials: Materials) -> None:
    measured = evaluate_partial(subject_of_run(run.path), materials)
    assert measured["shares"] == list(FIELD_SHARES)
    (folder,) = run.evaluations()
    assert read_json(folder / "partial.json") == measured
    scores = read_json(folder / "scores.json")
    for side in ("seen", "unseen"):
        values = [point["value"] for point in measured[side]]
        assert len(set(values)) == len(FIELD_SHARES)  # every share of the fields is answered in its own way
        assert values[-1] == pytest.approx(scores[side]["soft_emd"]["value"], abs=1e-6)
    assert not [name for name, _ in materials.backbone.model.named_modules() if "cuma" in name]


def test_fields_are_left_out_of_training_and_every_copy_leaves_out_others(materials: Materials) -> None:
    options = ("training.profile_dropout=0.5", "training.max_steps=400")
    rows = stage_rows("sft", recipe("cuma", *options), materials)
    plain = stage_rows("sft", recipe("cuma"), materials)
    assert len(rows) == math.ceil(400 * 4 / len(plain)) * len(plain)
    fields = [len(Profile.parse(profile).fields) for profile in rows["profile"]]
    assert np.mean(fields) == pytest.approx(2.5, abs=0.15)
    first, second = rows.select(range(len(plain))), rows.select(range(len(plain), 2 * len(plain)))
    assert first["input_ids"][:] == second["input_ids"][:] == plain["input_ids"][:]
    assert first["profile"][:] != second["profile"][:]


@pytest.mark.parametrize("option", ["training.loss=letter", "training.profile_dropout=0.5"])
def test_a_run_trains_on_letters_or_on_partial_people(option: str, materials: Materials, tmp_path: Path) -> None:
    options = (
        option,
        "data.max_train=40",
        "training.max_steps=2",
        "training.curve_steps=[]",
        "pipeline=[sft, dpo]",
        "dpo.max_steps=1",
    )
    made = train_run(recipe("cuma", *options), tmp_path / "run", materials)
    assert [row["step"] for row in made.stage(STAGE).read_log() if "loss" in row] == [1, 2]


# ---- publishing -----------------------------------------------------------------------------------------------------


def test_run_json_says_who_was_trained_on_and_the_card_has_code_that_runs(
    run: Run, materials: Materials, capsys: pytest.CaptureFixture[str]
) -> None:
    population = run.info["population"]
    seen = {group.id for group in materials.survey.groups if group.role == "seen"}
    assert set(population["groups"]) == seen
    assert sum(population["groups"].values()) == population["people"]
    assert population["profile_fields"]["sex"] == ["Female", "Male"]
    assert run.info["backbone"]["hub_id"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    card = write_model_card(run.path, str(run.adapter)).read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    capsys.readouterr()
    exec(compile(code, "card", "exec"), {})
    assert sum(ast.literal_eval(capsys.readouterr().out).values()) == pytest.approx(1)


def test_a_tracker_gets_the_log_and_nothing_about_people(materials: Materials, tmp_path: Path) -> None:
    options = ("training.max_steps=2", "training.curve_steps=[]", "training.report_to=[tensorboard]")
    told = recipe("lora", *options, "training.run_name=mine")  # LoRA: the profiles stand in its prompts
    stage = train_run(told, tmp_path / "lora", materials).stage(STAGE)
    (events,) = (stage.path / "tensorboard").iterdir()
    content = events.read_bytes()
    assert b"train/loss" in content
    assert f"mine/{STAGE}".encode() in content
    survey = materials.survey
    texts = [group.id for group in survey.groups] + [group.profile.sentence for group in survey.groups]
    texts += [question.text for question in survey.questions]
    assert [text for text in texts if text.encode() in content] == []


# ---- several stages -------------------------------------------------------------------------------------------------

SHORT = (
    "data.max_train=40",
    "training.max_steps=2",
    "dpo.max_steps=2",
    "dpo.per_device_train_batch_size=4",
    "dpo.learning_rate=1e-2",
)
SHORT += ("grpo.max_steps=2", "grpo.per_device_train_batch_size=4", "grpo.num_generations=2", "grpo.learning_rate=1e-2")


@pytest.mark.parametrize("kind", ["dpo", "grpo"])
def test_a_pipeline_hands_the_adapter_on(kind: str, materials: Materials, tmp_path: Path) -> None:
    whole = recipe("cuma", *SHORT, f"pipeline=[sft, {kind}]", "training.curve_steps=[]")
    run = train_run(whole, tmp_path / kind, materials)
    assert run.info["status"] == "trained"
    assert run.info["stages"] == ["01-sft", f"02-{kind}"]
    assert set(run.info["seconds"]) == {"sft", kind}
    sft, second = (load_file(stage.adapter / "adapter_model.safetensors") for stage in run.stages())
    final = load_file(run.adapter / "adapter_model.safetensors")
    assert sft.keys() == second.keys() == final.keys()
    assert any(not np.array_equal(sft[name], second[name]) for name in sft)
    for name in final:
        np.testing.assert_array_equal(final[name], second[name])
        if ".mean" in name or ".scale" in name:
            np.testing.assert_array_equal(sft[name], second[name])
    assert not list(run.path.glob("stages/*/adapter/ref"))
    first = next(row for row in run.stage(f"02-{kind}").read_log() if "loss" in row)
    assert first["aux_loss"] > 0
    if kind == "dpo":
        assert first["loss"] == pytest.approx(np.log(2) + 0.01 * first["aux_loss"], abs=1e-5)
    else:
        assert first["kl"] == pytest.approx(0, abs=1e-6)
        assert "rewards/agreement_reward/mean" in first
    names = [name for name, _ in materials.backbone.model.named_modules()]
    assert not [name for name in names if "cuma" in name or "base_layer" in name]


def test_a_second_stage_that_was_interrupted_goes_on_and_ends_with_the_same_weights(
    materials: Materials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (*SHORT, "pipeline=[sft, dpo]", "training.curve_steps=[]", "dpo.max_steps=4", "training.save_steps=2")
    whole = train_run(recipe("cuma", *options), tmp_path / "whole", materials)
    seal = SealCheckpoints.on_save

    def sealed_and_stopped(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        seal(self, args, state, control, **kwargs)
        if "02-dpo" in args.output_dir:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(SealCheckpoints, "on_save", sealed_and_stopped)
        with pytest.raises(KeyboardInterrupt):
            train_run(recipe("cuma", *options), tmp_path / "resumed", materials)
    assert Run.open(tmp_path / "resumed").info["stages"] == ["01-sft"]
    resumed = train_run(recipe("cuma", *options), tmp_path / "resumed", materials)
    assert resumed.info["resumed"] is True
    one, other = (load_file(made.adapter / "adapter_model.safetensors") for made in (whole, resumed))
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_the_topology_of_a_real_run_is_measured_and_shown(
    run: Run, materials: Materials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cuma.evaluation.counterfactuals.MAX_GROUPS", 2)
    monkeypatch.setattr("cuma.evaluation.counterfactuals.MAX_VALUES", 2)
    folder = Path(shutil.copytree(run.path, tmp_path / "cuma"))
    found = evaluate_topology(subject_of_run(folder), materials)
    assert read_json(next(folder.glob("evaluations/*/topology.json"))) == found
    profiles = {group.id: group.profile.fields for group in materials.survey.groups}
    predictions = pd.read_parquet(next(folder.glob("evaluations/*/predictions.parquet")))
    for change in found["counterfactuals"]:
        group = found["groups"][change["group"]]
        assert profiles[group][change["field"]] == change["before"] != change["after"]
        assert change["gates_moved"] > 0  # the router reads the profile
        assert sum(change["gates"]) == pytest.approx(1, abs=1e-3)
        wanted = {**profiles[group], change["field"]: change["after"]}
        twin = next((other for other, fields in profiles.items() if fields == wanted), None)
        for question, said in change["answers"].items():
            told = predictions[(predictions["group"] == twin) & (predictions["question_id"] == question)]
            if len(told):  # a changed profile that another group has is answered as that group is
                assert said == pytest.approx(told["probabilities"].iloc[0].tolist(), abs=2e-4)
    assert set(found["fields"]) == {"sex", "ethnicity", "education", "party", "church_activity"}
    page = write_report([folder], tmp_path / "report.html", draws=0).read_text(encoding="utf-8")
    assert 'id="changes-group"' in page


def test_a_model_without_experts_has_no_topology(run: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run.path, tmp_path / "cuma"))
    next(folder.glob("evaluations/*/routing.parquet")).unlink()
    with pytest.raises(RunError, match="no experts"):
        evaluate_topology(subject_of_run(folder))
