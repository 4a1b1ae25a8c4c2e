"""Layers whose rows are not the batch's: flat lists of tokens, experts that get a part of them, routers that are no
linear layers. Right, or refused when the adapter is put on, with what to leave out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import Tensor, nn
from transformers import (
    DeepseekV2Config,
    DeepseekV2ForCausalLM,
    Llama4ForCausalLM,
    Llama4TextConfig,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    XLNetConfig,
    XLNetLMHeadModel,
)

from cuma.errors import ProfileError, UnsupportedError
from cuma.training.gate_metrics import GateMeter
from helpers.tiny import HIDDEN, VOCAB, adapted, config, llama, llama_config, people, tokens

LLAMA = llama_config().to_dict()
SHAPE = {"eos_token_id": None} | {
    name: LLAMA[name] for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
    "num_attention_heads", "max_position_embeddings", "initializer_range", "pad_token_id")
}  # fmt: skip
ROUTED = {"moe_intermediate_size": 16, "num_experts_per_tok": 2}


def qwen() -> PreTrainedModel:
    """Its shared expert and that one's gate get all rows' tokens in one list."""
    own = {"num_key_value_heads": 2, "num_experts": 4, "shared_expert_intermediate_size": 24}
    return Qwen2MoeForCausalLM(Qwen2MoeConfig(**SHAPE, **ROUTED, **own))


def opt() -> PreTrainedModel:
    """So do its feed-forward layers, without any experts."""
    return OPTForCausalLM(OPTConfig(**SHAPE, ffn_dim=48, word_embed_proj_dim=HIDDEN, init_std=0.3))


def deepseek() -> PreTrainedModel:
    """kv_b_proj gets [B, 1, T, …]."""
    own = {"n_shared_experts": 1, "n_routed_experts": 4, "kv_lora_rank": 8, "q_lora_rank": 8, "v_head_dim": 8}
    own |= {"qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "n_group": 1, "topk_group": 1, "num_key_value_heads": 4}
    return DeepseekV2ForCausalLM(DeepseekV2Config(**SHAPE, **ROUTED, **own))


def llama4() -> PreTrainedModel:
    own = {"num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 1, "head_dim": 8}
    return Llama4ForCausalLM(Llama4TextConfig(**SHAPE, **own, intermediate_size_mlp=48))


def everywhere(make: Callable[[], nn.Module], **options: Any) -> Any:
    torch.manual_seed(0)
    return adapted(make().eval(), target_modules="all-linear", **options)


def padded(ids: Tensor, side: str) -> dict[str, Tensor]:
    """The same tokens with padding of four on one side, and with a position for each."""
    dead = torch.zeros(len(ids), 4, dtype=torch.long)
    left = side == "left"
    mask = torch.cat([dead, torch.ones_like(ids)] if left else [torch.ones_like(ids), dead], 1)
    whole = torch.cat([dead, ids] if left else [ids, dead], 1)
    return {"input_ids": whole, "attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}


@pytest.mark.parametrize(
    "options", [{}, {"router_input": "profile", "profile_in_experts": True}, {"router_input": "semantic"}]
)
@pytest.mark.parametrize("make", [qwen, opt, deepseek])
@torch.no_grad()
def test_each_row_is_answered_for_its_own_person_and_padding_counts_for_nobody(
    make: Callable[[], nn.Module], options: dict[str, Any]
) -> None:
    model, ids, who = everywhere(make, **options), tokens(3), people(3)
    alone = [model(input_ids=ids[[row]], profile_embeds=who[[row]]).logits for row in range(3)]
    short = model(input_ids=ids, profile_embeds=who, output_router_logits=True)
    torch.testing.assert_close(short.logits, torch.cat(alone), rtol=0, atol=1e-4)
    for side in ("left", "right"):
        with model.record_routing():
            long = model(**padded(ids, side), profile_embeds=who, output_router_logits=True)
        real = long.logits[:, 4:] if side == "left" else long.logits[:, :7]
        torch.testing.assert_close(real, torch.cat(alone), rtol=0, atol=1e-4)
        torch.testing.assert_close(long.aux_loss, short.aux_loss, rtol=0, atol=1e-5)
        assert {gates.shape for gates in model.routing().values()} == {(3, 11, 4)}


@torch.no_grad()
def test_generation_keeps_each_rows_person() -> None:
    model, ids, who = everywhere(qwen), tokens(2), people(2)
    for options in ({}, {"num_beams": 2}):
        how = {"max_new_tokens": 3, "do_sample": False, **options}
        alone = [model.generate(input_ids=ids[[row]], profile_embeds=who[[row]], **how) for row in range(2)]
        assert torch.equal(model.generate(input_ids=ids, profile_embeds=who, **how), torch.cat(alone))


@torch.no_grad()
def test_packed_rows_keep_each_tokens_person() -> None:
    model, ids, who = everywhere(opt), tokens(2), people(2)
    alone = [model(input_ids=ids[[row]], profile_embeds=who[[row]]).logits for row in range(2)]
    both = model(input_ids=ids, profile_embeds=who, profile_rows=torch.tensor([[0], [1]]).expand(2, 7)).logits
    torch.testing.assert_close(both, torch.cat(alone), rtol=0, atol=1e-4)


def test_training_on_a_list_of_tokens_counts_the_routers_gates() -> None:
    model, meter, ids = everywhere(qwen).train(), GateMeter(), tokens(3)
    with meter.watching(model.base_model):
        model(**padded(ids, "left"), labels=padded(ids, "left")["input_ids"], profile_embeds=people(3)).loss.backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert {"gate_entropy", "dead_experts", "expert_group_mi"} <= meter.report().keys()


# ---- what is refused when the adapter is put on ----------------------------------------------------------------------


class Sparse(nn.Module):
    """A feed-forward block as many models write it: each expert gets the tokens that chose it."""

    def __init__(self, name: str, top: int = 1) -> None:
        super().__init__()
        self.gate, self.name, self.top = nn.Linear(HIDDEN, 3), name, top
        self.add_module(name, nn.ModuleList(nn.Linear(HIDDEN, HIDDEN) for _ in range(3)))

    def forward(self, hidden: Tensor) -> Tensor:
        flat = hidden.view(-1, HIDDEN)
        chosen, out = self.gate(flat).topk(self.top).indices, torch.zeros_like(flat)
        for number, expert in enumerate(self.get_submodule(self.name)):
            _, rows = torch.where((chosen == number).T)
            out.index_add_(0, rows, expert(flat[rows]))
        return out.view(hidden.shape)


def sparse(name: str, **options: Any) -> PreTrainedModel:
    base = llama()
    for layer in base.model.layers:
        layer.mlp = Sparse(name, **options)
    return base


@pytest.mark.parametrize("name", ["experts", "local_experts", "feeders"])
def test_one_of_several_experts_is_refused_and_what_to_leave_out_is_named(name: str) -> None:
    base = sparse(name, top=2)
    before = [p.requires_grad for p in base.parameters()]
    with pytest.raises(UnsupportedError, match="exclude_modules=") as refused:
        adapted(base, target_modules="all-linear")
    assert [p.requires_grad for p in base.parameters()] == before
    excluded = eval(str(refused.value).partition("exclude_modules=")[2].partition(" (")[0])
    model, ids, who = adapted(base, target_modules="all-linear", exclude_modules=excluded), tokens(2), people(2)
    alone = [model(input_ids=ids[[row]], profile_embeds=who[[row]]).logits for row in range(2)]
    together = model(input_ids=ids, profile_embeds=who).logits
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-4)
    assert "model.layers.0.mlp.gate" in str([name for name, _ in model.named_modules()])


def test_experts_can_be_adapted_where_nobody_asks_whose_a_token_is() -> None:
    options = {"router_input": "semantic", "router_aux_loss_coef": 0, "target_modules": "all-linear"}
    model, meter = adapted(sparse("experts"), **options).train(), GateMeter()
    with meter.watching(model.base_model):
        model(**padded(tokens(3), "right"), labels=tokens(3, 11)).loss.backward()
    assert meter.report()["gate_entropy"] > 0
    with pytest.raises(UnsupportedError, match="router_aux_loss_coef=0"):
        adapted(sparse("experts"), **options | {"router_aux_loss_coef": 0.1})


def test_a_part_of_the_tokens_is_refused_by_name_when_it_comes() -> None:
    """Experts that nothing gave away: here they stand alone, in no list."""

    class Some(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.only = nn.Linear(HIDDEN, HIDDEN)

        def forward(self, hidden: Tensor) -> Tensor:
            out = torch.zeros_like(hidden)
            out[:, :5] = self.only(hidden[:, :5].reshape(-1, HIDDEN)).view(len(hidden), 5, HIDDEN)
            return out

    base = llama()
    base.model.layers[1].mlp = Some()
    model = adapted(base, target_modules=["only"])
    with pytest.raises(
        ProfileError, match=r"tokens \[10\] .*exclude_modules='model\\\\.layers\\\\.\\\\d\+\\\\.mlp"
    ) as told:
        model(input_ids=tokens(2), profile_embeds=people(2))
    assert "Give one row" not in str(told.value)
    model(input_ids=tokens(1), profile_embeds=people(1))  # all of one person's tokens are that person's


def test_models_that_hand_on_tokens_before_rows_are_refused() -> None:
    base = XLNetLMHeadModel(XLNetConfig(vocab_size=VOCAB, d_model=HIDDEN, n_layer=1, n_head=4, d_inner=48))
    with pytest.raises(UnsupportedError, match="XLNetLMHeadModel hands its layers"):
        adapted(base, target_modules=["layer_1"])


def test_a_router_of_the_base_that_is_no_linear_layer_is_refused() -> None:
    with pytest.raises(
        UnsupportedError, match=r"Llama4Router.*exclude_modules='model\\\\.layers\\\\.\\\\d\+\\\\.feed_forward"
    ):
        everywhere(llama4)
    model, ids, who = everywhere(llama4, exclude_modules=r".*\.router"), tokens(2), people(2)
    alone = [model(input_ids=ids[[row]], profile_embeds=who[[row]]).logits for row in range(2)]
    torch.testing.assert_close(model(input_ids=ids, profile_embeds=who).logits, torch.cat(alone), rtol=0, atol=1e-4)


def test_a_linear_layer_of_ones_own_is_taken() -> None:
    class Own(nn.Linear):
        def forward(self, hidden: Tensor) -> Tensor:
            return super().forward(hidden) * 2

    base = nn.Sequential(Own(HIDDEN, 8))
    model = get_peft_model(base, config(task_type=None, router_input="semantic", target_modules=["0"]))
    assert model(torch.randn(3, HIDDEN)).shape == (3, 8)
