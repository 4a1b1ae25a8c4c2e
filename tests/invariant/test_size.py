"""The published sizes: Qwen3-8B's shapes on the meta device, where parameters have shapes but no memory."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model
from transformers import Qwen3Config, Qwen3ForCausalLM

from cuma import CumaConfig

QWEN3_8B = Qwen3Config(
    vocab_size=151936,
    hidden_size=4096,
    intermediate_size=12288,
    num_hidden_layers=36,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
    tie_word_embeddings=False,
)


def share_of_base(**options: object) -> float:
    """Trainable over base parameters, in per cent."""
    with torch.device("meta"):
        base = Qwen3ForCausalLM(QWEN3_8B)
    total = sum(parameter.numel() for parameter in base.parameters())
    assert total == 8_190_735_360
    made = CumaConfig(target_modules=["q_proj", "v_proj"], profile_dim=1024, router_hidden_dim=256, **options)
    model = get_peft_model(base, made)
    assert all(parameter.is_meta for parameter in model.parameters())
    return 100 * model.get_nb_trainable_parameters()[0] / total


@pytest.mark.parametrize(("rank", "published"), [(8, 1.53), (64, 4.15)])
def test_one_router_for_each_target_is_the_published_size(rank: int, published: float) -> None:
    assert round(share_of_base(r=rank, share_a=False, share_router=False), 2) == published


@pytest.mark.parametrize(("rank", "scripts"), [(8, 0.75), (64, 1.96)])
def test_shared_a_and_router_are_the_size_of_the_released_scripts(rank: int, scripts: float) -> None:
    assert round(share_of_base(r=rank, share_a=True, share_router=True), 2) == scripts
