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

from cuma.backbones import load_backbone
from cuma.errors import ConfigError, UnsupportedError
from cuma.training.trainers import CumaDPOTrainer, CumaGRPOTrainer
from cuma.tuner.encoder import ProfileEncoder
from tiny import adapted, llama

PEOPLE = ["A man living in Kenya", "A woman living in Peru", "A man living in Japan", ""]
PAIRS = [
    {"prompt": f"Question {i}?", "chosen": " Yes.", "rejected": " Not at all.", "profile": profile}
    for i, profile in enumerate(PEOPLE)
]
PROMPTS = [{"prompt": f"Question {'again ' * i}?", "profile": profile} for i, profile in enumerate(PEOPLE)]
COMMON: dict[str, Any] = {
    "max_steps": 2,
    "per_device_train_batch_size": 2,
    "logging_steps": 1,
    "learning_rate": 1e-2,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "gradient_checkpointing": False,
    "bf16": False,
    "dataloader_pin_memory": False,
}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_backbone("smollm2-135m").tokenizer


@pytest.fixture(scope="module")
def encoder() -> ProfileEncoder:
    return ProfileEncoder.from_pretrained("minilm")


def mixture(tokenizer: Any, **options: Any) -> Any:
    return adapted(llama(vocab_size=len(tokenizer)), profile_dim=384, **options)


def dpo(folder: Path, tokenizer: Any, encoder: Any, model: Any = None, **options: Any) -> CumaDPOTrainer:
    return CumaDPOTrainer(
        mixture(tokenizer) if model is None else model,
        DPOConfig(output_dir=str(folder), **(COMMON | options)),
        train_dataset=Dataset.from_list(PAIRS),
        processing_class=tokenizer,
        profile_encoder=encoder,
    )


def grpo(folder: Path, tokenizer: Any, encoder: Any, reward: Any, model: Any = None, **options: Any) -> Any:
    own = {"num_generations": 2, "per_device_train_batch_size": 4, "max_completion_length": 4, "beta": 0.04}
    return CumaGRPOTrainer(
        mixture(tokenizer) if model is None else model,
        reward,
        GRPOConfig(output_dir=str(folder), **(COMMON | own | options)),
        train_dataset=Dataset.from_list(PROMPTS),
        processing_class=tokenizer,
        profile_encoder=encoder,
    )


def losses(trainer: Any) -> list[dict[str, float]]:
    return [row for row in trainer.state.log_history if "loss" in row]


# ---- DPO ------------------------------------------------------------------------------------------------------------


def test_chosen_and_rejected_belong_to_the_same_person(tmp_path: Path, tokenizer: Any, encoder: Any) -> None:
    batch = next(iter(dpo(tmp_path, tokenizer, encoder).get_train_dataloader()))
    texts = tokenizer.batch_decode(batch["input_ids"])
    assert len(batch["profile_embeds"]) == len(texts) == 4
    for text, embeds in zip(texts, batch["profile_embeds"], strict=True):
        profile = next(row["profile"] for row in PAIRS if row["prompt"] in text)
        torch.testing.assert_close(embeds, encoder([profile])[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("precompute", [False, True])
def test_the_first_loss_is_ln_2_and_the_balance(tmp_path: Path, tokenizer: Any, encoder: Any, precompute: bool) -> None:
    trainer = dpo(tmp_path, tokenizer, encoder, precompute_ref_log_probs=precompute)
    reference = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if ".ref." in name}
    trainer.train()
    first, second = losses(trainer)
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


def test_trls_own_weight_of_the_balance_loss_is_kept(tmp_path: Path, tokenizer: Any, encoder: Any) -> None:
    trainer = dpo(tmp_path, tokenizer, encoder, router_aux_loss_coef=0.5)
    trainer.train()
    first = losses(trainer)[0]
    assert first["loss"] == pytest.approx(math.log(2) + 0.5 * first["aux_loss"], abs=1e-5)


# ---- GRPO -----------------------------------------------------------------------------------------------------------


class Likes:
    """A reward that notes whom it was called for."""

    def __init__(self) -> None:
        self.__name__ = "likes"
        self.rows: list[tuple[str, str]] = []

    def __call__(self, prompts: list[str], completions: list[str], profile: list[str], **_: Any) -> list[float]:
        self.rows += list(zip(prompts, profile, strict=True))
        return [float(index % 2) for index in range(len(completions))]


def test_rewards_get_each_completions_own_person(tmp_path: Path, tokenizer: Any, encoder: Any) -> None:
    reward = Likes()
    trainer = grpo(tmp_path, tokenizer, encoder, reward)
    trainer.train()
    known = {row["prompt"]: row["profile"] for row in PROMPTS}
    assert len(reward.rows) == 8
    assert all(known[prompt] == profile for prompt, profile in reward.rows)
    assert all({"aux_loss", "kl"} <= row.keys() for row in losses(trainer))
    assert losses(trainer)[0]["kl"] == pytest.approx(0, abs=1e-6)


def test_every_forward_and_generation_sees_the_rows_own_people(tmp_path: Path, tokenizer: Any, encoder: Any) -> None:
    """Three chunks of rows, a shuffle by TRL and two iterations: the rows' people stay with them."""
    reward = Likes()
    options = {"num_iterations": 2, "steps_per_generation": 2, "gradient_accumulation_steps": 1, "max_steps": 4}
    trainer = grpo(tmp_path, tokenizer, encoder, reward, **options)
    tuner = trainer.model.base_model
    seen: list[tuple[str, torch.Tensor, torch.Tensor]] = []
    for name in ("forward", "generate"):
        original = getattr(tuner, name)

        def spy(*args: Any, _name: str = name, _original: Any = original, **kwargs: Any) -> Any:
            seen.append((_name, kwargs["input_ids"], kwargs["profile_embeds"]))
            return _original(*args, **kwargs)

        setattr(tuner, name, spy)
    trainer.train()
    assert {name for name, *_ in seen} == {"forward", "generate"}
    for name, ids, embeds in seen:
        assert len(ids) == len(embeds), name
        for row, own in zip(tokenizer.batch_decode(ids, skip_special_tokens=True), embeds, strict=True):
            profile = max((p for p in PROMPTS if p["prompt"] in row), key=lambda p: len(p["prompt"]))["profile"]
            torch.testing.assert_close(own, encoder([profile])[0], atol=1e-6, rtol=0, msg=name)


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
