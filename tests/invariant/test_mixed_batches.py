"""An answer depends on the question and the person, never on who else is in the batch or how it is padded."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from helpers.tiny import PAD, adapted, classifier, gpt2, llama, people, tokens

LENGTHS = (7, 3, 5, 1)
PEOPLE = people(len(LENGTHS))
OPTIONS = [
    {},
    {"router_input": "profile"},
    {"router_input": "semantic"},
    {"share_router": False, "share_a": True, "target_modules": "all-linear"},
    {"gating": "released", "profile_projection_dim": 3},
]


def rows() -> list[Tensor]:
    return [tokens(1, length, seed=length) for length in LENGTHS]


def padded(side: str) -> dict[str, Tensor]:
    ids = torch.full((len(LENGTHS), max(LENGTHS)), PAD)
    for row, (line, length) in enumerate(zip(rows(), LENGTHS, strict=True)):
        ids[row, -length:] = line[0] if side == "left" else ids[row, -length:]
        ids[row, :length] = line[0] if side == "right" else ids[row, :length]
    mask = (ids != PAD).long()
    position_ids = (mask.cumsum(-1) - 1).clamp(min=0)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": position_ids}


def last(logits: Tensor, side: str) -> Tensor:
    """[B, V] at each row's last real token."""
    return logits[:, -1] if side == "left" else logits[torch.arange(len(LENGTHS)), torch.tensor(LENGTHS) - 1]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("options", OPTIONS)
@torch.no_grad()
def test_logits_of_a_mixed_batch_are_those_of_each_alone(options: dict[str, Any], side: str) -> None:
    model = adapted(**options)
    together = last(model(**padded(side), profile_embeds=PEOPLE).logits, side)
    alone = [model(input_ids=line, profile_embeds=PEOPLE[i : i + 1]).logits[0, -1] for i, line in enumerate(rows())]
    torch.testing.assert_close(together, torch.stack(alone), rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_classifier_too() -> None:
    model = adapted(classifier(), task_type="SEQ_CLS")
    alone = [model(input_ids=line, profile_embeds=PEOPLE[i : i + 1]).logits[0] for i, line in enumerate(rows())]
    for side in ("left", "right"):
        together = model(**padded(side), profile_embeds=PEOPLE).logits
        torch.testing.assert_close(together, torch.stack(alone), rtol=0, atol=1e-5)


@torch.no_grad()
def test_gpt2_too() -> None:
    model = adapted(gpt2(), target_modules=["c_attn", "c_fc"])
    alone = [model(input_ids=line, profile_embeds=PEOPLE[i : i + 1]).logits[0, -1] for i, line in enumerate(rows())]
    together = last(model(**padded("left"), profile_embeds=PEOPLE).logits, "left")
    torch.testing.assert_close(together, torch.stack(alone), rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_order_of_rows_does_not_matter() -> None:
    model, order = adapted(), torch.tensor([2, 0, 3, 1])
    batch = padded("right")
    straight = model(**batch, profile_embeds=PEOPLE).logits
    shuffled = model(**{name: value[order] for name, value in batch.items()}, profile_embeds=PEOPLE[order]).logits
    torch.testing.assert_close(shuffled, straight[order], rtol=0, atol=1e-5)


# ---- text -----------------------------------------------------------------------------------------------------------

WAYS = {
    "greedy": {},
    "greedy without cache": {"use_cache": False},
    "beams": {"num_beams": 3},
    "beams without cache": {"num_beams": 3, "use_cache": False},
    "several returns": {"num_beams": 4, "num_return_sequences": 3},
}


def write(model: PeftModel, **inputs: Any) -> Tensor:
    """[…, 8] the tokens that were written."""
    length = inputs["input_ids"].shape[1]
    written = model.generate(**({"max_new_tokens": 8, "do_sample": False, "pad_token_id": PAD} | inputs))
    return written[:, length:]


def lone(model: PeftModel, **way: Any) -> Tensor:
    texts = [write(model, input_ids=line, profile_embeds=PEOPLE[i : i + 1], **way) for i, line in enumerate(rows())]
    return torch.cat(texts)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", OPTIONS[:2])
def test_text_of_a_mixed_batch_is_that_of_each_alone(options: dict[str, Any], way: str) -> None:
    model, batch = adapted(**options), padded("left")
    del batch["position_ids"]  # generate makes its own
    together = write(model, **batch, profile_embeds=PEOPLE, **WAYS[way])
    assert torch.equal(together, lone(model, **WAYS[way]))
    strangers = write(model, **batch, profile_embeds=PEOPLE.roll(1, 0), **WAYS[way])
    assert not torch.equal(together, strangers), "the people must matter, or this test says nothing"


def test_the_cache_changes_no_text() -> None:
    model = adapted()
    assert torch.equal(lone(model), lone(model, use_cache=False))
    assert torch.equal(lone(model, num_beams=3), lone(model, num_beams=3, use_cache=False))


def test_a_cached_step_is_the_full_forward() -> None:
    model, ids = adapted(), tokens(2)
    with torch.no_grad():
        full = model(input_ids=ids, profile_embeds=PEOPLE[:2]).logits
        start = model(input_ids=ids[:, :4], profile_embeds=PEOPLE[:2], use_cache=True)
        rest = model(input_ids=ids[:, 4:], past_key_values=start.past_key_values, profile_embeds=PEOPLE[:2])
    torch.testing.assert_close(rest.logits, full[:, 4:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("returns", [2, 3])
def test_sampled_returns_belong_to_their_person(returns: int) -> None:
    """Rows are repeated in place, [a, a, b, b]: tiling them, [a, b, a, b], gives answers to the wrong people."""
    model, ids, who = adapted(), tokens(3), PEOPLE[:3]
    way = {"do_sample": True, "top_k": 0}
    torch.manual_seed(0)
    sampled = write(model, input_ids=ids, profile_embeds=who, num_return_sequences=returns, **way)
    torch.manual_seed(0)
    repeated = ids.repeat_interleave(returns, 0)
    spelt_out = write(model, input_ids=repeated, profile_embeds=who.repeat_interleave(returns, 0), **way)
    assert torch.equal(sampled, spelt_out)
    torch.manual_seed(0)
    tiled = write(model, input_ids=repeated, profile_embeds=who.repeat(returns, 1), **way)
    assert not torch.equal(sampled, tiled)


def test_an_adapter_that_is_off_writes_what_the_base_writes() -> None:
    model, base = adapted(), llama()
    with model.disable_adapter():
        assert torch.equal(write(model, input_ids=tokens(2)), write(base, input_ids=tokens(2)))
    fresh = adapted(init_weights=True)
    assert torch.equal(write(fresh, input_ids=tokens(2), profile_embeds=PEOPLE[:2]), write(base, input_ids=tokens(2)))
