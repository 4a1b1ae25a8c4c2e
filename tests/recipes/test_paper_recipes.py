"""The authors' settings: TRL's own configurations take them, tiny bases train by them, sizes are the published ones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import get_peft_model
from transformers import Qwen3Config, Qwen3ForCausalLM

from cuma.answering.materials import Materials
from cuma.data.surveys.prompts import NO_PERSONA, as_persona
from cuma.errors import BenchmarkError, RecipeError
from cuma.people.profiles import Profile
from cuma.recipes.load import load_recipe, packaged_recipes
from cuma.recipes.schema import Recipe
from cuma.training.adapter_configs import adapter_config
from cuma.training.stages import dpo_config, sft_config, stage_rows
from cuma.training.train import train_run
from helpers.judging import prefers, serving
from helpers.paper import write_base, write_benchmark

NAMES = [name for name in packaged_recipes() if name.startswith(("paper/", "released/"))]
METHODS = ("cuma-r8", "dora", "full", "hydralora", "lora", "mixlora", "prefix")
TRAINED = [f"paper/qwen3-8b/{benchmark}/{method}" for benchmark in ("wvb", "prism") for method in METHODS]
TRAINED += ["paper/qwen3-8b/ca/cuma-r8", "released/qwen3-8b/wvb/cuma-r8"]
"""A recipe of every shape: the other ranks and the other base change numbers only."""
QWEN3_8B = Qwen3Config(
    vocab_size=151936, hidden_size=4096, intermediate_size=12288, num_hidden_layers=36, num_attention_heads=32,
    num_key_value_heads=8, head_dim=128, tie_word_embeddings=False,
)  # fmt: skip
D = 1024
"""Width of Qwen3-Embedding-0.6B."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Recipe, Materials]]:
    """(name, overrides) → the recipe for two steps on a tiny base and a synthetic benchmark, and what it names."""
    base = write_base(tmp_path_factory.mktemp("base"))
    loaded: dict[str, Materials] = {}

    @cache
    def folder(benchmark: str) -> Path:
        return write_benchmark(benchmark, tmp_path_factory.mktemp(benchmark))

    def made(name: str, *overrides: str) -> tuple[Recipe, Materials]:
        benchmark = name.split("/")[2]
        steps = ("max_steps=2", "num_train_epochs=null", "per_device_train_batch_size=2")
        small = [f"{section}.{step}" for section in ("training", "dpo") for step in steps]
        small += [f"backbone.model_name_or_path={base}", "backbone.dtype=float32", "encoder.model_name_or_path=minilm"]
        small += [f"data.benchmark={folder(benchmark)}", "training.bf16=false", "training.logging_steps=1"]
        recipe = load_recipe(name, [*small, *overrides])
        if benchmark not in loaded:
            loaded[benchmark] = Materials.load(recipe)
        assert loaded[benchmark].fit(recipe)
        return recipe, loaded[benchmark]

    return made


@pytest.mark.parametrize("name", NAMES)
def test_trl_takes_it(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, ["training.bf16=false", "training.adam_beta2=0.9", "backbone.dtype=float32"])
    training = sft_config(recipe, tmp_path)
    assert (training.num_train_epochs, training.max_steps) == (recipe.training.num_train_epochs, -1)
    assert training.max_length == recipe.training.max_length
    assert training.adam_beta2 == 0.9
    if "dpo" in recipe.pipeline:
        assert (dpo_config(recipe, tmp_path).beta, dpo_config(recipe, tmp_path).num_train_epochs) == (0.1, 1)


@pytest.mark.parametrize("name", TRAINED)
def test_it_trains_by_the_papers_stages_and_loss(name: str, small: Any, tmp_path: Path) -> None:
    recipe, materials = small(name, "data.max_train=8")
    run = train_run(recipe, tmp_path / "run", materials)
    assert run.info["stages"] == (["01-sft"] if "/wvb/" in name else ["01-sft", "02-dpo"])
    assert run.info["trainable_parameters"] > 0
    for stage in run.stages():
        losses = [row for row in stage.read_log() if "loss" in row]
        assert [row["step"] for row in losses] == [1, 2]
        assert all(math.isfinite(row["loss"]) for row in losses)
        assert "option_mass" not in losses[0]  # which survey rows have, trained on a group's whole distribution
        if "dpo" in stage.path.name:
            balance = recipe.adapter.router_aux_loss_coef * losses[0].get("aux_loss", 0)
            assert losses[0]["loss"] - balance == pytest.approx(math.log(2), abs=1e-4)


@pytest.mark.parametrize("name", ["paper/qwen3-8b/wvb/cuma-r8", "released/qwen3-8b/wvb/cuma-r64"])
def test_a_row_of_wvb_is_one_persons_letter_with_their_whole_profile(name: str, small: Any) -> None:
    recipe, materials = small(name)
    rows = stage_rows("sft", recipe, materials)
    assert len(rows) == materials.corpus.card["tasks"]["survey"]["train"] > 0
    for row in rows:
        system, asked = row["prompt"]
        (answer,) = row["completion"]
        assert f"\n{answer['content']}. " in asked["content"]
        assert system["content"] == as_persona(Profile.parse(row["profile"]).sentence)
    assert max(len(Profile.parse(profile).fields) for profile in rows["profile"]) > 5


@pytest.mark.parametrize(
    ("where", "router"), [("router", "joint"), ("nowhere", "semantic"), ("both", "joint"), ("prompt", "semantic")]
)
def test_what_a_wvb_prompt_tells_of_the_person_is_what_the_recipe_says(where: str, router: str, small: Any) -> None:
    name = "paper/qwen3-8b/wvb/cuma-r8"
    recipe, materials = small(name, f"data.profile_in={where}", f"adapter.router_input={router}")
    told = [row["prompt"][0]["content"] != NO_PERSONA for row in stage_rows("sft", recipe, materials)]
    assert all(told) if where in ("both", "prompt") else not any(told)
    countries = {group.id for group in materials.survey.groups}
    prompts = [str(row["prompt"]) for row in stage_rows("sft", recipe, materials)]
    assert any(country in prompt for country in countries for prompt in prompts) == (where in ("both", "prompt"))


def test_fields_that_are_left_out_are_not_in_a_wvb_prompt(small: Any) -> None:
    recipe, materials = small("paper/qwen3-8b/wvb/cuma-r8", "training.profile_dropout=1.0")
    rows = stage_rows("sft", recipe, materials)
    assert {row["prompt"][0]["content"] for row in rows} == {NO_PERSONA}
    assert not any(Profile.parse(profile) for profile in rows["profile"])


@pytest.mark.parametrize("benchmark", ["prism", "ca"])
def test_all_rows_of_the_sampled_conversations_are_trained_on(benchmark: str, small: Any) -> None:
    recipe, materials = small(f"paper/qwen3-8b/{benchmark}/cuma-r8")
    assert recipe.data.max_train is None
    for stage in ("sft", "dpo"):
        rows = stage_rows(stage, recipe, materials)
        assert len(rows) == materials.corpus.card["tasks"][stage]["train"]
        assert all(row["prompt"][0]["role"] == "system" for row in rows)
    assert len(stage_rows("dpo", recipe, materials)) > len(stage_rows("sft", recipe, materials))


GRPO = ("pipeline=[sft, grpo]", "grpo.max_steps=2", "grpo.per_device_train_batch_size=4", "grpo.num_generations=2")


def test_grpo_with_a_judge_has_what_people_preferred_as_its_reference(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUMA_CACHE", str(tmp_path / "cache"))
    with serving(prefers(lambda reply: -float(reply.startswith("Reply")))) as server:
        judge = ("grpo.reward=judge", "judge.model=tiny-judge", f"judge.base_url={server.url}")
        recipe, materials = small("paper/qwen3-8b/ca/cuma-r8", *GRPO, *judge, "data.max_train=8")
        run = train_run(recipe, tmp_path / "run", materials)
        shown = server.shown
    assert run.info["stages"] == ["01-sft", "02-grpo"]
    rewards = [row["rewards/judge_reward/mean"] for row in run.stages()[1].read_log() if "loss" in row]
    assert rewards == [1, 1]
    recipe, _ = small("paper/qwen3-8b/ca/cuma-r8")
    rows, pairs = (stage_rows(stage, recipe, materials) for stage in ("grpo", "dpo"))
    told = [(json.dumps(row["prompt"]), row["reference"]) for row in rows]
    assert len({prompt for prompt, _ in told}) == len(rows) < len(pairs)
    assert all((json.dumps(row["prompt"]), row["chosen"]) in told for row in pairs)
    people = {Profile.parse(profile).sentence for profile in rows["profile"]}
    preferred = {reference[0]["content"] for _, reference in told}
    assert all(one["person"] in people and preferred & {one["reply A"], one["reply B"]} for one in shown)


def test_a_reward_that_the_folders_rows_cannot_feed_is_refused_before_training(small: Any, tmp_path: Path) -> None:
    recipe, materials = small("paper/qwen3-8b/ca/cuma-r8", *GRPO)
    with pytest.raises(RecipeError, match=r"'agreement'.*'answer'.*has only prompt, reference, profile"):
        train_run(recipe, tmp_path / "run", materials)
    recipe, materials = small("paper/qwen3-8b/wvb/cuma-r8", *GRPO, "grpo.reward=judge", "judge.model=tiny-judge")
    with pytest.raises(RecipeError, match=r"'judge'.*'reference'"):
        train_run(recipe, tmp_path / "run", materials)
    assert not (tmp_path / "run").exists()


def meta_materials(base: Any) -> Any:
    return SimpleNamespace(
        backbone=SimpleNamespace(model=base), table=SimpleNamespace(embeds=torch.zeros(1, D)), encoder_spec=None
    )


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("paper/{}/cuma-r8", 1.53),
        ("paper/{}/cuma-r64", 4.15),
        ("released/{}/cuma-r8", 0.75),
        ("released/{}/cuma-r64", 1.96),
    ],
)
def test_the_trainable_share_is_trainable_over_base_parameters(name: str, published: float) -> None:
    with torch.device("meta"):
        base = Qwen3ForCausalLM(QWEN3_8B)
    total = sum(parameter.numel() for parameter in base.parameters())
    model = get_peft_model(base, adapter_config(load_recipe(name.format("qwen3-8b/wvb")), meta_materials(base)))
    assert round(100 * model.get_nb_trainable_parameters()[0] / total, 2) == published


@pytest.mark.parametrize("rank", [8, 64])
def test_ranks_and_rates_are_the_authors(rank: int) -> None:
    recipe = load_recipe(f"paper/llama-3.1-8b/wvb/cuma-r{rank}")
    assert (recipe.adapter.r, recipe.adapter.lora_alpha) == (rank, 2 * rank)
    assert recipe.training.learning_rate == {8: 2e-5, 64: 5e-6}[rank]
    assert load_recipe(f"paper/llama-3.1-8b/prism/cuma-r{rank}").training.learning_rate == 2e-5
    assert recipe.data.profile_in == "both"


def test_a_benchmark_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"wvb.*gss"):
        train_run(load_recipe("paper/qwen3-8b/wvb/cuma-r8"), tmp_path / "run")
