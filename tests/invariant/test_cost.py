"""What an adapted layer costs, without a clock: kernels, host syncs, bytes kept for the backward, peak memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache, StaticCache

from cuma.tuner.config import CumaConfig
from cuma.tuner.context import Conditioning, conditioned
from cuma.tuner.layer import CumaLinear
from helpers.counting import kept_bytes, kernels, peak_bytes, syncs
from helpers.tiny import PROFILE, adapted, llama, people, tokens

LAYERS = 2


def layer(width: int, out: int | None = None, dtype: torch.dtype = torch.float32, **options: Any) -> CumaLinear:
    """One adapted layer with its router, in the default sizes."""
    base = nn.Linear(width, out or width, bias=False, dtype=dtype).requires_grad_(False)
    made = CumaLinear(base, "default")
    made.update_layer("default", CumaConfig(profile_dim=PROFILE, init_weights=False, **options), None, "proj")
    return made


def call_of(model: Any, who: Tensor) -> Conditioning:
    """The conditioning that `generate` sets up."""
    return Conditioning(profile=model.base_model.cuma_profile["default"](who), expands=True)


def decoding(base: nn.Module, rows: int, call: Conditioning | None = None) -> Callable[[], Tensor]:
    """One step of generation after a prefix, again and again."""
    ids = tokens(rows, 5)

    def under(**inputs: Any) -> Any:
        with torch.no_grad():
            if call is None:
                return base(**inputs)
            with conditioned(call):
                return base(**inputs)

    cache = under(input_ids=ids[:, :4], use_cache=True).past_key_values

    def step() -> Tensor:
        logits = under(input_ids=ids[:, 4:], past_key_values=cache, use_cache=True).logits
        cache.crop(-1)
        return logits

    step()
    return step


# ---- decoding ------------------------------------------------------------------------------------------------------


def decode_kernels(who: Tensor, **options: Any) -> list[str]:
    model = adapted(**options)
    names, _ = kernels(decoding(model.get_base_model(), len(who), call_of(model, who)))
    return names


@pytest.mark.parametrize("options", [{}, {"share_a": True}, {"r": 64}, {"top_k": 1}])
def test_a_step_of_decoding_launches_a_fixed_small_number_of_kernels(options: dict[str, Any]) -> None:
    """Two layers share a router: 12 kernels for it at most (K = 2), and 3 for the experts of each."""
    base, _ = kernels(decoding(llama(), 3))
    ours = decode_kernels(people(3), **options)
    assert len(ours) - len(base) <= LAYERS * (12 + 2 * 3)
    assert decode_kernels(people(3, seed=9), **options) == ours, "who asks changes nothing about the work"
    assert decode_kernels(people(1).expand(3, -1), **options) == ours
    assert len(syncs(ours)) == len(syncs(base)), "no layer waits for the device"


def test_the_profile_part_is_computed_once_a_request() -> None:
    model = adapted()
    call = call_of(model, people(2))
    products = []
    for router in (module for name, module in model.named_modules() if name.endswith("cuma_router.default")):
        own = router.profile_part
        router.profile_part = lambda profile, own=own: products.append(1) or own(profile)
    step = decoding(model.get_base_model(), 2, call)
    step()
    step()
    assert len(products) == LAYERS


@pytest.mark.parametrize("rank", [4, 64])
def test_64_different_people_cost_what_64_equal_ones_do(rank: int) -> None:
    model = adapted(r=rank)

    def cost(who: Tensor) -> tuple[int, int]:
        inputs = {"input_ids": tokens(64, 3), "profile_embeds": who}
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(**inputs)
        with torch.no_grad():
            return counter.get_total_flops(), len(kernels(lambda: model(**inputs))[0])

    equal, different = cost(people(1).expand(64, -1)), cost(people(64))
    assert different[0] == equal[0]
    few = 10 * LAYERS * 8 if rank == 64 else 0  # gathered: some for each expert that anybody chose
    assert abs(different[1] - equal[1]) <= few


# ---- training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_keeps_at_most_2_kb_a_token_beside_its_input(dtype: torch.dtype) -> None:
    """H = 576, r = 8, router and balance loss included."""
    made, count = layer(576, dtype=dtype), 256
    hidden = torch.randn(1, count, 576, dtype=dtype, requires_grad=True)
    known = [hidden, *made.parameters()]

    def forward() -> tuple[Tensor, Tensor | None]:
        with conditioned(Conditioning(profile=people(1), balanced=True)) as call:
            return made(hidden), call.balance_loss()

    small = 64 * 1024  # what does not grow with tokens: the person's part, losses
    assert kept_bytes(forward, known) <= 2048 * count + small


def test_a_layers_peak_is_the_bases_and_less_than_one_output_more() -> None:
    count, out = 256, 8192
    made = layer(64, out, r=2, router_hidden_dim=16)
    hidden = torch.randn(1, count, 64, requires_grad=True)

    def forward() -> Tensor:
        with conditioned(Conditioning(profile=people(1))):
            return made(hidden)

    base = peak_bytes(lambda: made.base_layer(hidden))
    assert base >= 4 * count * out
    assert peak_bytes(forward) <= base + count * out  # a quarter of an output of fp32; a sum out of place takes a whole


def test_training_waits_for_the_device_only_to_check_the_profiles() -> None:
    base, inputs = llama().train(), {"input_ids": tokens(3), "use_cache": False}
    model = adapted().train()
    model(**inputs, profile_embeds=people(3))
    theirs, _ = kernels(lambda: base(**inputs))
    forward, output = kernels(lambda: model(**inputs, profile_embeds=people(3)))
    backward, _ = kernels(lambda: (output.logits.sum() + output.aux_loss).backward())
    assert len(syncs(forward)) <= len(syncs(theirs)) + 1
    assert not syncs(backward)


def test_a_router_reads_a_shared_input_once() -> None:
    alone, shared = (adapted(target_modules=names) for names in (["q_proj"], ["q_proj", "k_proj", "v_proj"]))
    inputs = {"input_ids": tokens(3), "profile_embeds": people(3)}
    with torch.no_grad():
        one, three = (kernels(lambda m=m: m(**inputs))[0] for m in (alone, shared))
    assert one.count("aten.argmax") == three.count("aten.argmax") == 2 * LAYERS


# ---- compiled ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_training_is_one_graph(packed: bool) -> None:
    """Conditioning, routing, experts and balance loss without a break; the gradients are those of the plain form."""
    model = adapted(llama(num_hidden_layers=1)).train()
    ids = tokens(2)
    inputs = {"input_ids": ids, "labels": ids, "use_cache": False, "profile_embeds": people(3 if packed else 2)}
    if packed:
        inputs["profile_rows"] = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [2, 2, 2, 2, 2, -1, -1]])
    found = []
    torch._dynamo.reset()
    for run in (model, torch.compile(model, backend="aot_eager", fullgraph=True)):
        run(**inputs).loss.backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
        model.zero_grad()
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


@torch.no_grad()
def test_decoding_is_one_graph_with_a_static_cache_for_whoever_asks() -> None:
    """The second request is another person's: the same graph serves it, or this raises."""
    model = adapted(llama(num_hidden_layers=1))
    base, ids = model.get_base_model(), tokens(2, 6)
    torch._dynamo.reset()
    compiled = torch.compile(base, backend="aot_eager", fullgraph=True)
    for seed in range(3):
        with conditioned(call_of(model, people(2, seed=seed))):
            expected = base(input_ids=ids, use_cache=True, past_key_values=DynamicCache()).logits[:, 4:]
        cache = StaticCache(config=base.config, max_cache_len=8)
        with conditioned(call_of(model, people(2, seed=seed))), torch._dynamo.config.patch(error_on_recompile=seed > 0):
            base(input_ids=ids[:, :4], past_key_values=cache)
            found = [compiled(input_ids=ids[:, i : i + 1], past_key_values=cache).logits for i in (4, 5)]
        torch.testing.assert_close(torch.cat(found, 1), expected, rtol=0, atol=1e-5)
