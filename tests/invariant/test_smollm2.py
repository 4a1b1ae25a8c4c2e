"""The promises of the tuner on a real language model: SmolLM2-135M-Instruct, adapters on the last 8 of 30 layers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from cuma import CumaConfig
from cuma.models.backbones import Backbone, load_backbone
from helpers.tiny import people

QUESTIONS = [
    "Should it be possible for a woman to obtain a legal abortion?",
    "How important is God in your life?",
    "Are men better leaders?",
]
PEOPLE = people(3, dim=384)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("smollm2-135m")


@pytest.fixture
def model(backbone: Backbone) -> Iterator[PeftModel]:
    """A fresh adapter; taken out again, so that every test sees the untouched base."""
    torch.manual_seed(0)
    options = {"profile_dim": 384, "layers_to_transform": list(range(22, 30)), "target_modules": ["q_proj", "v_proj"]}
    made = get_peft_model(backbone.model, CumaConfig(**options))
    made.fit_profiles(people(50, dim=384))
    yield made.eval()
    made.unload()


def batch(tokenizer: PreTrainedTokenizerBase, side: str = "left") -> dict[str, Tensor]:
    encoded = tokenizer(QUESTIONS, return_tensors="pt", padding=True, padding_side=side)
    mask = encoded["attention_mask"]
    return {**encoded, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}


def last(logits: Tensor, mask: Tensor) -> Tensor:
    final = (mask * torch.arange(mask.shape[1])).argmax(-1)
    return logits[torch.arange(len(mask)), final]


def one_by_one(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, who: Tensor | None) -> Tensor:
    answers = []
    for row, question in enumerate(QUESTIONS):
        person = {} if who is None else {"profile_embeds": who[row : row + 1]}
        answers.append(model(**tokenizer(question, return_tensors="pt"), **person).logits[0, -1])
    return torch.stack(answers)


@torch.no_grad()
def test_a_fresh_adapter_changes_nothing(backbone: Backbone, model: PeftModel) -> None:
    inputs = batch(backbone.tokenizer)
    assert model.base_model.cuma_profile["default"].target_norm == 6.0
    with model.disable_adapter():
        untouched = model(**inputs).logits
    assert torch.equal(model(**inputs, profile_embeds=PEOPLE).logits, untouched)


@torch.no_grad()
def test_a_mixed_batch_is_as_good_as_one_by_one(backbone: Backbone, model: PeftModel) -> None:
    """Kernels round differently for other batch shapes; an adapter may add no more than the base's own difference."""
    for layer in model.modules():
        if hasattr(layer, "lora_B"):
            layer.lora_B.normal_(std=0.02)
    for side in ("left", "right"):
        inputs = batch(backbone.tokenizer, side)
        together = last(model(**inputs, profile_embeds=PEOPLE).logits, inputs["attention_mask"])
        ours = (together - one_by_one(model, backbone.tokenizer, PEOPLE)).abs().max()
        with model.disable_adapter():
            base = last(model(**inputs).logits, inputs["attention_mask"])
            theirs = (base - one_by_one(model, backbone.tokenizer, None)).abs().max()
        assert (together - base).abs().max() > 0.1, "the adapter must say something"
        assert ours <= 2e-4
        assert ours <= 2 * theirs
