"""A base in 4 bits: it is called as a black box, and what is trained on it stays in float32."""

from __future__ import annotations

import inspect
import math
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig

from cuma.errors import ConfigError
from cuma.models.backbones import load_backbone
from cuma.people.encoder import ProfileEncoder
from cuma.training.trainers import CumaSFTTrainer
from helpers.preferences import COMMON, PAIRS, Likes, dpo, grpo
from helpers.tiny import adapted, llama, people, tokens


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return load_backbone("smollm2-135m").tokenizer


@pytest.fixture(scope="module")
def folder(tokenizer: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base")
    llama(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def answers(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=tokens(3), profile_embeds=people(3, dim=384)).logits


def test_a_four_bit_base_is_trained_on_saved_and_loaded(
    folder: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    base = load_backbone(str(folder), quantization="4bit").model
    weight = base.model.layers[0].self_attn.q_proj.weight
    assert type(weight).__name__ == "Params4bit"
    assert weight.dtype == torch.uint8
    frozen = weight.data.clone()
    model = adapted(base, profile_dim=384)
    before = answers(model)
    rows = [{"prompt": row["prompt"], "completion": row["chosen"], "profile": row["profile"]} for row in PAIRS]
    trainer = CumaSFTTrainer(
        model,
        SFTConfig(output_dir=str(tmp_path / "run"), **COMMON),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        profile_encoder=ProfileEncoder.from_pretrained("minilm"),
    )
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}  # TRL has cast them to bf16
    trainer.train()
    assert torch.equal(base.model.layers[0].self_attn.q_proj.weight.data, frozen)
    after = answers(model)
    assert not torch.allclose(before, after)
    model.save_pretrained(tmp_path / "adapter")
    again = PeftModel.from_pretrained(load_backbone(str(folder), quantization="4bit").model, str(tmp_path / "adapter"))
    torch.testing.assert_close(answers(again), after, rtol=0, atol=1e-5)


@pytest.mark.parametrize("stage", ["dpo", "dpo-precomputed", "grpo"])
def test_a_stage_starts_at_its_reference_to_the_last_bit(
    folder: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, stage: str
) -> None:
    model = adapted(load_backbone(str(folder), quantization="4bit").model, profile_dim=384)
    came_in = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    assert any(not torch.equal(p, p.bfloat16().float()) for p in came_in.values())  # what bf16 would lose
    encoder = ProfileEncoder.from_pretrained("minilm")
    if stage == "grpo":
        trainer = grpo(tmp_path, tokenizer, encoder, Likes(), model)
    else:
        trainer = dpo(tmp_path, tokenizer, encoder, model, precompute_ref_log_probs=stage == "dpo-precomputed")
    for name, before in came_in.items():
        for adapter in ("default", "ref"):
            assert torch.equal(model.get_parameter(name.replace(".default", f".{adapter}")), before), (adapter, name)
    trainer.train()
    first = next(row for row in trainer.state.log_history if "loss" in row)
    if stage == "grpo":
        assert first["kl"] == pytest.approx(0, abs=1e-6)
    else:
        assert first["loss"] == pytest.approx(math.log(2) + 0.01 * first["aux_loss"], abs=1e-6)


def test_measuring_first_changes_nothing_of_the_gradients(folder: Path) -> None:
    gradients = []
    for measured in (False, True):
        model = adapted(load_backbone(str(folder), quantization="4bit").model, profile_dim=384)
        if measured:
            answers(model)  # in eval mode: where bitsandbytes may pack weights into a form without a gradient
        model.train()(input_ids=tokens(3), profile_embeds=people(3, dim=384), labels=tokens(3)).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    assert any(gradient.abs().sum() > 0 for name, gradient in gradients[0].items() if "layers.0" in name)
    torch.testing.assert_close(*gradients)


def test_no_layer_may_pack_its_weights_for_inference(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)  # as if this CPU could
    assert Linear4bit(2, 2).support_avx512bf16_for_cpu
    layers = [m for m in load_backbone(str(folder), quantization="4bit").model.modules() if isinstance(m, Linear4bit)]
    assert layers
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)
    made = inspect.getsource(Linear4bit.forward)  # what it is that is switched off, on CPUs that have it
    assert "self.support_avx512bf16_for_cpu" in made
    assert "_convert_weight_packed_for_cpu" in made


def test_an_unknown_quantization_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match="4bit, 8bit"):
        load_backbone(str(folder), quantization="3bit")
