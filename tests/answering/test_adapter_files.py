"""Full fine-tuning of everything: every weight once, saved whole, loaded as it was, taken off without a trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from cuma.answering.adapter_files import load_adapter, save_adapter, take_off, taken_off_after
from cuma.training.adapter_configs import whole_copies
from helpers import tiny


@pytest.mark.parametrize("tied", [True, False])
def test_all_weights_are_trained_saved_and_taken_off(tied: bool, tmp_path: Path) -> None:
    base = tiny.llama(tie_word_embeddings=tied).requires_grad_(False)
    before, untouched = tiny.weights(base), tiny.base_logits(base)
    model = get_peft_model(base, whole_copies(base, None))
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert trained == sum(parameter.numel() for parameter in tiny.llama(tie_word_embeddings=tied).parameters())
    tiny.step(model, profile_embeds=None)
    learned = tiny.base_logits(model)
    assert not torch.allclose(learned, untouched)
    save_adapter(model, tmp_path)
    assert tiny.same(before, tiny.weights(take_off(model)))
    assert torch.equal(tiny.base_logits(base), untouched)
    again = load_adapter(base, tmp_path)
    assert torch.equal(tiny.base_logits(again), learned)
    assert not any(parameter.requires_grad for parameter in again.parameters())
    assert take_off(again) is base
    assert tiny.same(before, tiny.weights(base))


def test_an_adapter_is_taken_off_whatever_happens() -> None:
    base = tiny.llama()
    before = tiny.weights(base)
    with taken_off_after(base) as bare:
        assert bare is base
    with pytest.raises(KeyError):
        fail_on(tiny.adapted(base))
    assert tiny.same(before, tiny.weights(base))


def fail_on(model: PeftModel) -> None:
    with taken_off_after(model) as adapted:
        raise KeyError(len(adapted.peft_config))


def test_another_name_of_the_same_model_is_no_news(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    base = tiny.llama()
    base.name_or_path = "smollm2-135m"
    model = get_peft_model(base, LoraConfig(target_modules=["q_proj"]))
    model.save_pretrained(str(tmp_path), save_embedding_layers=False)
    take_off(model)
    told = {}
    for name in ("HuggingFaceTB/SmolLM2-135M-Instruct", "someone/else"):
        file = tmp_path / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": name}))
        recwarn.clear()
        take_off(load_adapter(base, tmp_path, needs_sums=False))
        told[name] = [str(warning.message) for warning in recwarn if "renamed" in str(warning.message)]
    assert [len(texts) for texts in told.values()] == [0, 1]
