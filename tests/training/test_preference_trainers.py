"""CumaDPOTrainer and CumaGRPOTrainer on tiny models: the right people everywhere, and the right reference."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from trl import DPOConfig, GRPOConfig

from cuma.errors import ConfigError, UnsupportedError
from cuma.models.backbones import load_backbone
from cuma.people.encoder import ProfileEncoder
from cuma.training.trainers import CumaDPOTrainer, CumaGRPOTrainer
from helpers.preferences import COMMON, PAIRS, PEOPLE, PROMPTS, Likes, dpo, grpo, mixture
from helpers.tiny import config, llama


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_backbone("smollm2-135m").tokenizer


@pytest.fixture(scope="module")
def encoder() -> ProfileEncoder:
    return ProfileEncoder.from_pretrained("minilm")


def losses(trainer: Any) -> list[dict[str, float]]:
    return [row for row in trainer.state.log_history if "loss" in row]


# ---- DPO ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precompute", [False, True])
def test_the_first_loss_is_ln_2_and_the_balance(tmp_path: Path, tokenizer: Any, encoder: Any, precompute: bool) -> None:
    trainer = dpo(tmp_path, tokenizer, encoder, precompute_ref_log_probs=precompute)
    reference = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if ".ref." in name}
    trainer.train()
    first, second = losses(trainer)
    assert {"gate_entropy", "effective_experts", "dead_experts"} <= first.keys()
    assert first["loss"] == pytest.approx(math.log(2) + 0.01 * first["aux_loss"], abs=1e-5)
    assert second["loss"] != pytest.approx(first["loss"], abs=1e-4)
    assert reference
    for name, p in trainer.model.named_parameters():
        if name in reference:
            assert torch.equal(p, reference[name]), name
        elif "cuma_router" in name or "cuma_experts" in name:
            assert p.requires_grad


def test_the_reference_is_the_adapter_and_not_the_bare_model(tmp_path: Path, tokenizer: Any, encoder: Any) -> None:
    trainer = dpo(tmp_path, tokenizer, encoder)
    model = trainer.model
    batch = next(iter(trainer.get_train_dataloader()))
    expected, _ = trainer.compute_ref_log_probs(model, dict(batch))
    model.set_adapter("ref")
    as_reference, _ = trainer.compute_ref_log_probs(model, dict(batch))
    torch.testing.assert_close(as_reference, expected)
    model.delete_adapter("ref")
    model.set_adapter("default")
    without, _ = trainer.compute_ref_log_probs(model, dict(batch))
    assert not torch.allclose(without, expected, atol=1e-3)


def test_another_persons_pair_has_another_loss(tmp_path: Path, tokenizer: Any, encoder: Any) -> None:
    trainer = dpo(tmp_path, tokenizer, encoder)
    batch = next(iter(trainer.get_train_dataloader()))
    own = trainer.compute_ref_log_probs(trainer.model, dict(batch))[0]
    other = trainer.compute_ref_log_probs(trainer.model, {**batch, "profile_embeds": batch["profile_embeds"].flip(0)})[
        0
    ]
    assert not torch.allclose(own, other, atol=1e-5)


def test_a_frozen_adapter_or_another_name_is_refused_with_the_way_out(
    tmp_path: Path, tokenizer: Any, encoder: Any
) -> None:
    mixture(tokenizer).save_pretrained(tmp_path / "adapter")
    base = llama(vocab_size=len(tokenizer))
    with pytest.raises(ConfigError, match="is_trainable=True"):
        dpo(tmp_path, tokenizer, encoder, PeftModel.from_pretrained(base, tmp_path / "adapter"))
    base = llama(vocab_size=len(tokenizer))
    named = PeftModel.from_pretrained(base, tmp_path / "adapter", adapter_name="mine", is_trainable=True)
    with pytest.raises(ConfigError, match="'default'"):
        dpo(tmp_path, tokenizer, encoder, named)
    trained = dpo(tmp_path, tokenizer, encoder).model
    with pytest.raises(ConfigError, match="delete_adapter"):
        dpo(tmp_path, tokenizer, encoder, trained)


def test_a_configuration_in_the_place_of_an_adapter_makes_mixture_and_reference(
    tmp_path: Path, tokenizer: Any, encoder: Any
) -> None:
    common: dict[str, Any] = {
        "processing_class": tokenizer, "profile_encoder": encoder, "peft_config": config(profile_dim=384),
    }  # fmt: skip
    base = llama(vocab_size=len(tokenizer))
    pairs = CumaDPOTrainer(base, DPOConfig(str(tmp_path), **COMMON), train_dataset=Dataset.from_list(PAIRS), **common)
    pairs.train()
    first = losses(pairs)[0]
    assert first["loss"] == pytest.approx(math.log(2) + 0.01 * first["aux_loss"], abs=1e-5)
    base = llama(vocab_size=len(tokenizer))
    own = GRPOConfig(str(tmp_path), **COMMON, num_generations=2, max_completion_length=4, beta=0.04)
    prompts = CumaGRPOTrainer(base, Likes(), own, train_dataset=Dataset.from_list(PROMPTS), **common)
    prompts.train()
    assert losses(prompts)[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert all("aux_loss" in row for row in losses(prompts))


def test_trls_own_weight_of_the_balance_loss_is_kept(tmp_path: Path, tokenizer: Any, encoder: Any) -> None:
    trainer = dpo(tmp_path, tokenizer, encoder, router_aux_loss_coef=0.5)
    trainer.train()
    first = losses(trainer)[0]
    assert first["loss"] == pytest.approx(math.log(2) + 0.5 * first["aux_loss"], abs=1e-5)


# ---- GRPO -----------------------------------------------------------------------------------------------------------


def test_rewards_get_each_completions_own_person(tmp_path: Path, tokenizer: Any, encoder: Any) -> None:
    reward = Likes()
    trainer = grpo(tmp_path, tokenizer, encoder, reward)
    trainer.train()
    known = {row["prompt"]: row["profile"] for row in PROMPTS}
    assert len(reward.rows) == 8
    assert all(known[prompt] == profile for prompt, profile in reward.rows)
    assert all({"aux_loss", "kl", "gate_entropy"} <= row.keys() for row in losses(trainer))
    assert losses(trainer)[0]["kl"] == pytest.approx(0, abs=1e-6)


def test_trl_does_not_print_the_person_of_a_completion_without_reward(
    tmp_path: Path, tokenizer: Any, encoder: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def none(completions: list[str], **_: Any) -> list[None]:
        return [None] * len(completions)

    with caplog.at_level(logging.WARNING):
        grpo(tmp_path, tokenizer, encoder, none, max_steps=1).train()
    assert "All reward functions returned None" in caplog.text
    assert not any(profile in caplog.text for profile in PEOPLE if profile)


@pytest.mark.parametrize("option", ["use_transformers_continuous_batching", "use_vllm"])
def test_generation_that_would_mix_people_is_refused(tmp_path: Path, tokenizer: Any, encoder: Any, option: str) -> None:
    with pytest.raises(UnsupportedError, match=option):
        grpo(tmp_path, tokenizer, encoder, Likes(), **{option: True})


def test_vllm_is_refused_for_a_mixture_that_reads_nobody_too(tmp_path: Path, tokenizer: Any) -> None:
    with pytest.raises(UnsupportedError, match=r"use_vllm=True .* Set use_vllm=False"):
        grpo(tmp_path, tokenizer, None, Likes(), mixture(tokenizer, router_input="semantic"), use_vllm=True)


def test_prompts_and_replies_are_not_logged(tmp_path: Path, tokenizer: Any, encoder: Any) -> None:
    with pytest.raises(UnsupportedError, match="log_completions"):
        grpo(tmp_path, tokenizer, encoder, Likes(), log_completions=True)


def test_a_rollout_function_is_refused(tmp_path: Path, tokenizer: Any, encoder: Any) -> None:
    with pytest.raises(UnsupportedError, match="rollout_func"):
        CumaGRPOTrainer(
            mixture(tokenizer),
            Likes(),
            GRPOConfig(output_dir=str(tmp_path), num_generations=2, **COMMON),
            train_dataset=Dataset.from_list(PROMPTS),
            processing_class=tokenizer,
            profile_encoder=encoder,
            rollout_func=lambda *_: {},
        )


def test_a_semantic_mixture_needs_no_people(tmp_path: Path, tokenizer: Any) -> None:
    trainer = grpo(tmp_path, tokenizer, None, Likes(), mixture(tokenizer, router_input="semantic"))
    trainer.train()
    assert trainer.state.global_step == 2
