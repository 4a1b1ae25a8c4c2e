"""The frozen trunk changes what is computed, never what comes out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from peft import get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

import cuma
from cuma.models.trunk import FrozenTrunk
from helpers.tiny import llama


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4, pad_token_id=0
    )
    adapter = cuma.CumaConfig(
        r=2, num_experts=4, profile_dim=6, target_modules=["q_proj"], layers_to_transform=[2, 3], init_weights=False
    )
    model = get_peft_model(LlamaForCausalLM(config).eval(), adapter)
    model.fit_profiles(torch.randn(5, 6))
    return model


def _batch(side: str) -> dict[str, torch.Tensor]:
    rows = [[3, 4, 5, 6], [7, 8], [9, 10, 11]]
    pads = [[0] * (4 - len(row)) for row in rows]
    ids = torch.tensor([pad + row if side == "left" else row + pad for pad, row in zip(pads, rows, strict=True)])
    mask = (ids != 0).long()
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_output_at_real_tokens_is_the_same(model: torch.nn.Module, side: str) -> None:
    batch, embeds = _batch(side), torch.randn(3, 6)
    plain = model(**batch, profile_embeds=embeds, use_cache=False).logits
    with FrozenTrunk(model) as trunk:
        assert trunk.depth == 2
        first = model(**batch, profile_embeds=embeds, use_cache=False).logits
        again = model(**batch, profile_embeds=embeds, use_cache=False).logits
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(first[real], plain[real], atol=1e-5, rtol=1e-5)
    assert torch.equal(first, again)
    assert torch.equal(model(**batch, profile_embeds=embeds, use_cache=False).logits, plain)


@pytest.mark.parametrize("keep", [1, 2, torch.tensor([3]), torch.tensor([1, 3])], ids=["1", "2", "[3]", "[1, 3]"])
def test_logits_at_some_positions_are_the_models_own(model: torch.nn.Module, keep: int | torch.Tensor) -> None:
    batch, embeds = _batch("left"), torch.randn(3, 6)
    for parameter in model.parameters():  # B = 0 would hide a mixture that is left out
        parameter.data += 0.01 * torch.randn_like(parameter)
    model.train()  # the balance loss is only computed while training
    plain = model(**batch, profile_embeds=embeds, use_cache=False, logits_to_keep=keep)
    with FrozenTrunk(model):
        kept = model(**batch, profile_embeds=embeds, use_cache=False, logits_to_keep=keep)
    mask = batch["attention_mask"].bool()
    real = mask[:, -keep:] if isinstance(keep, int) else mask[:, keep]
    assert kept.logits.shape == plain.logits.shape
    torch.testing.assert_close(kept.logits[real], plain.logits[real], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(kept.aux_loss, plain.aux_loss, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("adapted", "positions"), [("q_proj", 1), ("gate_proj", 4)])
def test_the_last_block_runs_where_logits_are_asked_for_unless_it_is_adapted(adapted: str, positions: int) -> None:
    config = cuma.CumaConfig(
        r=2, num_experts=4, router_input="semantic", target_modules=[adapted], layers_to_transform=[1]
    )
    model = get_peft_model(llama(), config)
    seen: list[int] = []
    block = model.get_base_model().model.layers[-1].mlp.down_proj
    block.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    with FrozenTrunk(model), torch.no_grad():
        model(**_batch("left"), use_cache=False, logits_to_keep=1)
    assert seen[-1] == positions


def test_each_distinct_row_is_computed_once(model: torch.nn.Module, count: Callable[..., list[int]]) -> None:
    calls = count(model.get_base_model().model.layers[0])
    batch = _batch("left")
    with FrozenTrunk(model):
        for _ in range(3):
            model(**batch, profile_embeds=torch.randn(3, 6), use_cache=False)
    assert len(calls) == 3  # rows


@pytest.fixture
def count() -> Callable[..., list[int]]:
    def hook(module: torch.nn.Module) -> list[int]:
        calls: list[int] = []
        module.register_forward_hook(lambda *_: calls.append(1))
        return calls

    return hook


def test_a_bare_model_can_share_what_is_kept_for_an_adapted_one(
    model: torch.nn.Module, count: Callable[..., list[int]]
) -> None:
    kept: dict[int, dict[bytes, torch.Tensor]] = {}
    batch = _batch("left")
    bare = model.get_base_model()
    with model.disable_adapter(), torch.no_grad():
        plain = bare(**batch, use_cache=False).logits
    with FrozenTrunk(model, lambda depth: kept.setdefault(depth, {})):
        model(**batch, profile_embeds=torch.randn(3, 6), use_cache=False)
    calls = count(bare.model.layers[0])
    model.unload()
    with FrozenTrunk(bare, lambda depth: kept.setdefault(depth, {}), max_depth=2), torch.no_grad():
        shared = bare(**batch, use_cache=False).logits
    assert list(kept) == [2]
    assert not calls
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(shared[real], plain[real], atol=1e-5, rtol=1e-5)


def test_gradients_are_the_same(model: torch.nn.Module) -> None:
    batch, embeds = _batch("right"), torch.randn(3, 6)
    last = batch["attention_mask"].sum(-1) - 1

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        model(**batch, profile_embeds=embeds, use_cache=False).logits[range(3), last].square().sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    plain = gradients()
    with FrozenTrunk(model):
        kept = gradients()
    assert len(plain) == len(kept) > 0
    for a, b in zip(plain, kept, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_generation_does_not_use_it(model: torch.nn.Module) -> None:
    ids, embeds = torch.tensor([[3, 4, 5]]), torch.randn(1, 6)
    options = {"profile_embeds": embeds, "max_new_tokens": 4, "do_sample": False}
    plain = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
    with FrozenTrunk(model):
        assert torch.equal(model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options), plain)


def test_beyond_the_limit_rows_are_computed_anew(model: torch.nn.Module, count: Callable[..., list[int]]) -> None:
    calls = count(model.get_base_model().model.layers[0])
    with FrozenTrunk(model, max_bytes=0):
        for _ in range(2):
            model(**_batch("left"), profile_embeds=torch.randn(3, 6), use_cache=False)
    assert len(calls) == 6  # rows × calls


def test_one_trunk_inside_another_serves_once(model: torch.nn.Module) -> None:
    batch, embeds = _batch("left"), torch.randn(3, 6)
    plain = model(**batch, profile_embeds=embeds, use_cache=False).logits[:, -1]
    with FrozenTrunk(model), FrozenTrunk(model):
        inner = model(**batch, profile_embeds=embeds, use_cache=False).logits[:, -1]
    torch.testing.assert_close(inner, plain, atol=1e-5, rtol=1e-5)


def test_the_model_is_whole_again_after_an_error(model: torch.nn.Module) -> None:
    layers = list(model.get_base_model().model.layers)
    with pytest.raises(cuma.errors.ProfileError), FrozenTrunk(model):
        model(**_batch("left"), use_cache=False)
    assert list(model.get_base_model().model.layers) == layers
