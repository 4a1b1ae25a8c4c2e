"""Bases whose weights lie elsewhere between calls, or nowhere: accelerate's offloading, and the device "meta"."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model, init_empty_weights
from peft import PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from cuma.errors import UnsupportedError
from helpers.tiny import adapted, config, llama, llama_config, logits, people, tokens

CPU = torch.device("cpu")
SPREAD = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk", "model.norm": "cpu",
          "model.rotary_emb": "cpu", "lm_head": "cpu"}  # fmt: skip
WAYS: dict[str, Callable[[Path], Any]] = {
    "cpu_offload": lambda _: cpu_offload(llama(), execution_device=CPU),
    "disk_offload": lambda folder: disk_offload(llama(), folder, execution_device=CPU),
    "dispatch_model": lambda folder: dispatch_model(llama(), dict(SPREAD), main_device="cpu", offload_dir=folder),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_offloaded_base_answers_is_trained_and_saved_as_any_other(way: str, tmp_path: Path) -> None:
    options = {"profile_projection_dim": 5}
    whole = adapted(llama(), **options)
    whole.save_pretrained(tmp_path / "adapter")
    expected = logits(whole)
    made = adapted(WAYS[way](tmp_path / "put on"), **options)
    loaded = PeftModel.from_pretrained(WAYS[way](tmp_path / "loaded"), tmp_path / "adapter").eval()
    empty = PeftModel.from_pretrained(
        WAYS[way](tmp_path / "empty"), tmp_path / "adapter", low_cpu_mem_usage=True
    ).eval()
    for model in (made, loaded, empty):
        assert torch.equal(logits(model), expected)
        assert not any(p.is_meta for name, p in model.named_parameters() if "cuma_" in name)
    made.save_pretrained(tmp_path / "again")
    assert torch.equal(logits(PeftModel.from_pretrained(llama(), tmp_path / "again")), expected)
    gradients = []
    for model in (whole, made):
        model.train()(input_ids=tokens(2), labels=tokens(2), profile_embeds=people(2)).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


def test_a_mixture_that_is_offloaded_with_its_base_comes_back(tmp_path: Path) -> None:
    expected = logits(adapted())
    for first in ("saved", "called", "fitted"):
        model = adapted()
        cpu_offload(model, execution_device=CPU)
        if first == "fitted":
            model.fit_profiles(people(20))
        elif first == "saved":
            model.save_pretrained(tmp_path)
            assert torch.equal(logits(PeftModel.from_pretrained(llama(), tmp_path)), expected)
        assert torch.equal(logits(model), expected)


def test_a_base_whose_weights_nobody_brings_is_refused(tmp_path: Path) -> None:
    base = llama()
    base.model.layers[1].to("meta")
    with pytest.raises(UnsupportedError, match=r"'model.layers.1.self_attn.q_proj', are on the device 'meta'"):
        adapted(base)
    adapted().save_pretrained(tmp_path / "adapter")
    llama().save_pretrained(tmp_path / "base")
    spread = AutoModelForCausalLM.from_pretrained(
        tmp_path / "base", device_map=dict(SPREAD), offload_folder=tmp_path / "disk"
    )
    assert torch.equal(logits(adapted(spread)), logits(adapted(llama())))  # put on, its offloading stays
    spread = AutoModelForCausalLM.from_pretrained(
        tmp_path / "base", device_map=dict(SPREAD), offload_folder=tmp_path / "disk"
    )
    with pytest.raises(UnsupportedError, match="not with a device_map"):  # loaded, PEFT takes it off
        PeftModel.from_pretrained(spread, tmp_path / "adapter", offload_folder=tmp_path / "disk")


@pytest.mark.parametrize("empty", [lambda: torch.device("meta"), init_empty_weights])
def test_a_sketch_of_a_model_can_be_adapted_and_called_for_its_shapes(empty: Callable[[], Any]) -> None:
    with empty():
        base = LlamaForCausalLM(llama_config())
    model = get_peft_model(base, config())
    assert all(p.is_meta for p in model.parameters())
    model.fit_profiles(people(9))
    ids, who = tokens(3).to("meta"), people(3).to("meta")
    assert model.eval()(input_ids=ids, profile_embeds=who).logits.shape == (3, 7, 99)
    assert model.train()(input_ids=ids, labels=ids, profile_embeds=who).loss.is_meta
