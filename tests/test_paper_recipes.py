"""The authors' settings: real configuration classes take them, tiny models run them, sizes are the published ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import get_peft_model
from transformers import Qwen3Config, Qwen3ForCausalLM

import tiny
from cuma.adapter_files import take_off
from cuma.errors import BenchmarkError
from cuma.recipe import load_recipe, packaged_recipes
from cuma.training.stages import dpo_config, sft_config
from cuma.training.train import adapter_config, train_run

NAMES = [name for name in packaged_recipes() if name.startswith(("paper/", "released/"))]
TINY: dict[str, Any] = {
    "vocab_size": tiny.VOCAB, "hidden_size": tiny.HIDDEN, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
QWEN3_8B = Qwen3Config(
    vocab_size=151936, hidden_size=4096, intermediate_size=12288, num_hidden_layers=36, num_attention_heads=32,
    num_key_value_heads=8, head_dim=128, tie_word_embeddings=False,
)  # fmt: skip
D = 1024
"""Width of Qwen3-Embedding-0.6B."""


def materials(base: Any) -> Any:
    return SimpleNamespace(
        backbone=SimpleNamespace(model=base), table=SimpleNamespace(embeds=torch.zeros(1, D)), encoder_spec=None
    )


@pytest.mark.parametrize("name", NAMES)
def test_trainers_and_peft_take_it_and_it_learns(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, ["training.bf16=false", "backbone.dtype=float32", "training.adam_beta2=0.9"])
    training = sft_config(recipe, tmp_path)
    assert (training.num_train_epochs, training.max_steps) == (recipe.training.num_train_epochs, -1)
    assert training.max_length == recipe.training.max_length
    assert training.adam_beta2 == 0.9
    if "dpo" in recipe.pipeline:
        assert (dpo_config(recipe, tmp_path).beta, dpo_config(recipe, tmp_path).num_train_epochs) == (0.1, 1)
    if recipe.adapter.method == "none":
        return
    torch.manual_seed(0)
    base = tiny.llama() if "llama" in name else Qwen3ForCausalLM(Qwen3Config(**TINY, head_dim=8))
    model = get_peft_model(base.requires_grad_(False), adapter_config(recipe, materials(base)))
    conditioning = {}
    if recipe.adapter.method == "cuma" and recipe.adapter.router_input == "joint":
        model.fit_profiles(tiny.people(9, dim=D))
        conditioning["profile_embeds"] = tiny.people(3, dim=D)
    ids = tiny.tokens(3)
    model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids, **conditioning).loss.backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in trained)
    assert take_off(model) is base


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
    model = get_peft_model(base, adapter_config(load_recipe(name.format("qwen3-8b/wvb")), materials(base)))
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
