"""What can be adapted, with which inputs, in which precision."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import get_peft_model
from torch import nn

from cuma.errors import ConfigError, UnsupportedError
from cuma.tuner.layer import CumaLinear
from helpers.tiny import (
    HIDDEN,
    CrossAttention,
    Opaque,
    adapted,
    base_logits,
    classifier,
    config,
    gpt2,
    llama,
    logits,
    people,
    step,
    tokens,
)


def semantic(base: nn.Module, **options: object) -> nn.Module:
    torch.manual_seed(1)
    return get_peft_model(base, config(task_type=None, router_input="semantic", **options))


def layers(model: nn.Module) -> dict[str, CumaLinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, CumaLinear)}


@pytest.mark.parametrize("options", [{}, {"share_a": True}, {"router_input": "profile"}, {"profile_projection_dim": 3}])
def test_a_fresh_adapter_changes_nothing(options: dict[str, object]) -> None:
    model = adapted(init_weights=True, **options)
    assert torch.equal(logits(model), base_logits(llama()))
    step(model)
    assert not torch.equal(logits(model), base_logits(llama()))


@pytest.mark.parametrize("shape", [(HIDDEN,), (5, HIDDEN), (2, 5, HIDDEN), (2, 5, 3, HIDDEN)])
@pytest.mark.parametrize("share_router", [True, False])
def test_semantic_routers_take_any_module_and_shape(shape: tuple[int, ...], share_router: bool) -> None:
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(HIDDEN, 8), nn.ReLU(), nn.Linear(8, 3))
    hidden = torch.randn(shape)
    before = base(hidden)
    model = semantic(base, target_modules=["0", "2"], share_router=share_router)
    after = model(hidden)
    assert after.shape == (*shape[:-1], 3)
    assert not torch.allclose(after, before)
    rows = model(hidden.reshape(-1, HIDDEN)).reshape(after.shape)
    torch.testing.assert_close(after, rows)
    with model.disable_adapter():
        assert torch.equal(model(hidden), before)


def test_routing_can_be_recorded_without_a_task() -> None:
    model = semantic(nn.Sequential(nn.Linear(HIDDEN, 8)), target_modules=["0"])
    with model.record_routing():
        model(torch.randn(2, 5, HIDDEN))
    assert model.routing()["0"].shape == (2, 5, 4)


def test_an_opaque_base_layer_is_a_black_box() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.packed_proj = Opaque(HIDDEN, 8)

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return self.packed_proj(hidden)

    block, hidden = Block(), torch.randn(2, HIDDEN)
    before, original = block(hidden), block.packed_proj
    with pytest.warns(UserWarning, match="Unsupported layer type"):  # PEFT's word for a layer it does not know
        model = semantic(block, target_modules=["packed_proj"])
    assert not torch.allclose(model(hidden), before)
    assert model.unload().packed_proj is original
    assert torch.equal(block(hidden), before)


def test_gpt2s_conv1d() -> None:
    model = adapted(gpt2(), target_modules=["c_attn"])
    assert layers(model)["base_model.model.transformer.h.0.attn.c_attn"].out_features == 3 * HIDDEN
    assert not torch.allclose(logits(model), base_logits(gpt2()))
    step(model)


@pytest.mark.parametrize("target", [nn.Embedding(9, 8), nn.Conv1d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Bilinear(2, 2, 2)])
@pytest.mark.filterwarnings("ignore:Unsupported layer type")
def test_other_layers_are_refused_by_name(target: nn.Module) -> None:
    base = nn.ModuleDict({"first": nn.Linear(4, 4), "second": target})
    with pytest.raises(UnsupportedError, match=rf"{type(target).__name__}.*exclude_modules"):
        semantic(base, target_modules=["first", "second"])
    assert isinstance(base["first"], nn.Linear), "a refused model must be left as it was"


def test_attentions_own_projection_is_refused() -> None:
    """nn.MultiheadAttention reads the weight of out_proj and never calls it: an adapter there would do nothing."""
    with pytest.raises(UnsupportedError, match="NonDynamicallyQuantizableLinear"):
        semantic(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), target_modules=["out_proj"])


@pytest.mark.parametrize("tied", [True, False])
def test_adapters_on_the_head_are_refused_and_nothing_is_lost(tied: bool) -> None:
    base = llama(tie_word_embeddings=tied)
    before, trainable = base_logits(base), [p.requires_grad for p in base.parameters()]
    with pytest.raises(UnsupportedError, match=r"lm_head.*exclude_modules"):
        get_peft_model(base, config(target_modules=["q_proj", "lm_head"]))
    assert not layers(base)
    assert torch.equal(base_logits(base), before)
    assert [p.requires_grad for p in base.parameters()] == trainable
    assert not torch.equal(logits(adapted(base)), before), "the same model can be adapted after all"


def test_all_linear_leaves_the_head_alone() -> None:
    names = {name.rpartition(".")[2] for name in layers(adapted(target_modules="all-linear"))}
    assert names == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert {name.rpartition(".")[2] for name in layers(adapted(gpt2(), target_modules="all-linear"))} == {
        "c_attn",
        "c_proj",
        "c_fc",
    }


def test_choosing_layers() -> None:
    assert {name.split(".")[4] for name in layers(adapted(layers_to_transform=[1]))} == {"1"}
    assert {name.split(".")[4] for name in layers(adapted(layers_to_transform=0))} == {"0"}
    left = layers(adapted(target_modules=r".*\.(q|v)_proj", exclude_modules=r".*layers\.0.*"))
    assert {name.split(".")[4] for name in left} == {"1"}
    assert {name.rpartition(".")[2] for name in layers(adapted(exclude_modules=["q_proj"]))} == {"v_proj"}
    assert {name.rpartition(".")[2] for name in layers(adapted(target_modules=None))} == {"q_proj", "v_proj"}


@pytest.mark.parametrize("target_modules", [["q_proj", "k_proj", "v_proj", "o_proj"], ["gate_proj", "up_proj"]])
def test_layers_with_one_input_share_one_router(target_modules: list[str]) -> None:
    shared, own = adapted(target_modules=target_modules), adapted(target_modules=target_modules, share_router=False)
    routers = [name for name, layer in layers(shared).items() if "default" in layer.cuma_router]
    assert len(routers) == (4 if "o_proj" in target_modules else 2)  # two blocks, o_proj has an input of its own
    assert all("default" in layer.cuma_router for layer in layers(own).values())
    with shared.record_routing(), own.record_routing():
        logits(shared)
        logits(own)
    assert len(shared.routing()) == len(routers)
    assert len(own.routing()) == len(layers(own))


def test_a_shared_router_routes_each_input_by_itself() -> None:
    """In cross-attention k and v read another text than q: same router, another routing."""
    torch.manual_seed(0)
    model = semantic(CrossAttention(), target_modules=["q_proj", "k_proj", "v_proj"])
    tuner = layers(model)
    router = tuner["base_model.model.q_proj"].cuma_router["default"]
    asked, told = torch.randn(2, 3, HIDDEN), torch.randn(2, 5, HIDDEN)
    calls: list[torch.Tensor] = []
    router.register_forward_hook(lambda _, inputs, __: calls.append(inputs[0]))
    with model.record_routing():
        together = model(asked, told)
    assert [call is asked for call in calls] == [True, False], "v must use k's routing, of the same input"
    q, k, v = (layer(x) for layer, x in zip(tuner.values(), (asked, told, told), strict=True))
    torch.testing.assert_close(together, (q @ k.transpose(-1, -2)).softmax(-1) @ v)


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_adapters_stay_fp32_on_a_half_precision_base(dtype: torch.dtype, autocast: bool) -> None:
    torch.manual_seed(1)
    model = get_peft_model(llama().to(dtype), config(profile_projection_dim=3), autocast_adapter_dtype=autocast)
    model.fit_profiles(people(9))
    ours = {name: p for name, p in model.named_parameters() if "cuma_" in name}
    assert {p.dtype for p in ours.values()} == {torch.float32}
    assert {p.dtype for name, p in model.named_parameters() if name not in ours} == {dtype}
    assert logits(model).dtype == dtype
    step(model)
    assert {p.dtype for p in ours.values()} == {torch.float32}


def test_a_half_precision_default_dtype_does_not_round_the_adapter() -> None:
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = adapted(profile_projection_dim=3)
    finally:
        torch.set_default_dtype(torch.float32)
    for name, parameter in model.named_parameters():
        if name.endswith(("lora_A", "input.weight", "projection.weight")):
            assert parameter.dtype == torch.float32
            assert not torch.equal(parameter, parameter.bfloat16().float()), name


def test_under_autocast_training_works_and_stays_fp32() -> None:
    model = adapted().train()
    ids = tokens(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(input_ids=ids, labels=ids, profile_embeds=people(3))
    output.loss.backward()
    assert output.aux_loss.dtype == torch.float32
    assert all(p.grad.dtype == torch.float32 for p in model.parameters() if p.requires_grad)


def test_dropout_is_on_the_experts_and_not_on_the_router() -> None:
    model = adapted(lora_dropout=0.5).train()
    ids, who = tokens(2), people(2)
    with model.record_routing(), torch.no_grad():
        first = model(input_ids=ids, profile_embeds=who).logits
        one = model.routing()["model.layers.0.self_attn.q_proj"]
        second = model(input_ids=ids, profile_embeds=who).logits
        two = model.routing()["model.layers.0.self_attn.q_proj"]
    assert not torch.equal(first, second)
    assert torch.equal(one, two)


@pytest.mark.parametrize("top_k", [1, 2, 4])
@pytest.mark.parametrize("share_router", [True, False])
def test_every_parameter_has_a_gradient_in_every_step(top_k: int, share_router: bool) -> None:
    """Distributed training then needs no search for unused parameters."""
    model = adapted(top_k=top_k, share_router=share_router, profile_projection_dim=3, init_weights=True).train()
    ids = tokens(1, 2)
    model(input_ids=ids, labels=ids, profile_embeds=people(1)).loss.backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_a_deep_copy_is_independent() -> None:
    model = adapted()
    twin = copy.deepcopy(model)
    before = logits(model)
    assert torch.equal(logits(twin), before)
    step(twin)
    assert torch.equal(logits(model), before)
    assert not torch.equal(logits(twin), before)
    originals = set(layers(model).values())
    for layer in layers(twin).values():
        assert layer not in originals
        assert not set(layer.router_owner.values()) & originals, "a copy must not use the original's router"


def test_a_deep_copy_after_checkpointed_training() -> None:
    model = adapted()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    step(model)
    twin = copy.deepcopy(model)
    step(twin)
    step(model)
    assert torch.equal(logits(twin), logits(model))


def test_printing_names_the_parts() -> None:
    text = str(adapted())
    assert "cuma.CumaLinear" in text
    assert "lora_A=[4, 4, 32]" in text


def test_sequence_classification() -> None:
    model = adapted(classifier(), task_type="SEQ_CLS")
    head = model.base_model.model.score
    inputs = {"input_ids": tokens(3), "profile_embeds": people(3)}
    answers = model(**inputs).logits
    assert answers.shape == (3, 3)
    model.train()
    before = head.modules_to_save["default"].weight.clone()
    output = model(**inputs, labels=torch.tensor([0, 1, 2]))
    output.loss.backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    assert output.aux_loss > 0
    assert not torch.equal(head.modules_to_save["default"].weight, before)


def test_experts_that_read_the_profile_are_the_equation_on_the_joint_input() -> None:
    model = adapted(profile_in_experts=True, num_experts=1, top_k=1, router_input="profile", router_hidden_dim=None)
    layer = next(iter(layers(model).values()))
    experts = layer.cuma_experts["default"]
    assert experts.lora_A.shape[-1] == HIDDEN + people(1).shape[-1]
    hidden, profile = torch.randn(2, 5, HIDDEN), people(2)
    joint = torch.cat([hidden, profile[:, None].expand(-1, 5, -1)], dim=-1)
    expected = joint @ experts.lora_A[0].T @ experts.lora_B[0].T * experts.scaling
    added = experts(torch.zeros_like(expected), hidden, torch.ones(2, 5, 1), profile[:, None])
    torch.testing.assert_close(added, expected)


def test_one_expert_that_reads_the_profile_answers_each_person_differently() -> None:
    model = adapted(profile_in_experts=True, num_experts=1, top_k=1, router_input="profile", router_hidden_dim=None)
    same = tokens(1).expand(2, -1)
    answers = model(same, profile_embeds=people(2)).logits
    assert not torch.allclose(answers[0], answers[1])


def test_experts_cannot_read_a_profile_that_nobody_gives() -> None:
    with pytest.raises(ConfigError, match="profile_in_experts"):
        config(router_input="semantic", profile_in_experts=True)
