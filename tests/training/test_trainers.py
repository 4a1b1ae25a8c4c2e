"""CumaSFTTrainer on TRL's own dataset forms: who asks reaches the routers, and the balance loss is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils.deepspeed import HfDeepSpeedConfig
from datasets import Dataset
from peft import PrefixTuningConfig
from transformers import PreTrainedTokenizerBase
from transformers.integrations.deepspeed import set_hf_deepspeed_config, unset_hf_deepspeed_config
from trl import SFTConfig

from cuma.errors import ConfigError, ProfileError, UnsupportedError
from cuma.models.backbones import load_backbone
from cuma.people.encoder import ProfileEncoder
from cuma.training.trainers import CumaSFTTrainer
from helpers.tiny import adapted, config, llama, same, weights

ROWS = [
    {"prompt": "What do you eat?", "completion": " Rice.", "profile": {"country": "Japan"}},
    {"prompt": "What do you eat?", "completion": " Potatoes.", "profile": {"country": "Peru"}},
    {"prompt": "What do you drink?", "completion": " Tea.", "profile": "A man living in Kenya"},
    {"prompt": "What do you drink?", "completion": " Water.", "profile": None},
]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return load_backbone("smollm2-135m").tokenizer


@pytest.fixture(scope="module")
def encoder() -> ProfileEncoder:
    return ProfileEncoder.from_pretrained("minilm")


def sentences(rows: list[dict[str, Any]]) -> Dataset:
    """Arrow wants one type a column: objects become sentences, as in a JSONL file with mixed profiles."""
    from cuma.people.profiles import Profile

    return Dataset.from_list([{**row, "profile": Profile.parse(row["profile"]).sentence} for row in rows])


def mixture(tokenizer: PreTrainedTokenizerBase, **options: Any) -> Any:
    return adapted(llama(vocab_size=len(tokenizer)), profile_dim=384, **options)


def arguments(folder: Path, **options: Any) -> SFTConfig:
    defaults: dict[str, Any] = {
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "gradient_checkpointing": False,
        "bf16": False,
    }
    return SFTConfig(output_dir=str(folder), **(defaults | options))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_moves_experts_and_routers_and_logs_the_balance(
    tmp_path: Path, tokenizer: Any, encoder: Any, checkpointing: bool
) -> None:
    model = mixture(tokenizer)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    args = arguments(tmp_path, gradient_checkpointing=checkpointing)
    trainer = CumaSFTTrainer(
        model, args, train_dataset=sentences(ROWS), processing_class=tokenizer, profile_encoder=encoder
    )
    trainer.train()
    assert all("aux_loss" in row for row in trainer.state.log_history if "loss" in row)
    for name, p in model.named_parameters():
        moved = not torch.equal(p, before[name])
        assert moved == p.requires_grad, name


def test_each_rows_person_reaches_the_model(tmp_path: Path, tokenizer: Any, encoder: Any) -> None:
    model = mixture(tokenizer)
    trainer = CumaSFTTrainer(
        model, arguments(tmp_path), train_dataset=sentences(ROWS), processing_class=tokenizer, profile_encoder=encoder
    )
    batch = next(iter(trainer.get_train_dataloader()))
    texts = [tokenizer.decode(row) for row in batch["input_ids"]]
    for text, embeds in zip(texts, batch["profile_embeds"], strict=True):
        row = next(row for row in sentences(ROWS) if row["completion"].strip() in text)
        torch.testing.assert_close(embeds, encoder([row["profile"]])[0], atol=1e-6, rtol=0)


def test_an_unfitted_adapter_is_fitted_on_the_distinct_profiles(tmp_path: Path, tokenizer: Any, encoder: Any) -> None:
    model = mixture(tokenizer)
    standardiser = model.base_model.cuma_profile["default"]
    with torch.no_grad():
        standardiser.scale.zero_()
    dataset = sentences([*ROWS, *ROWS[:1] * 5])
    CumaSFTTrainer(
        model, arguments(tmp_path), train_dataset=dataset, processing_class=tokenizer, profile_encoder=encoder
    )
    expected = encoder(sentences(ROWS)["profile"][:3])
    torch.testing.assert_close(standardiser.mean.detach(), expected.mean(0), atol=1e-6, rtol=0)
    assert standardiser.fitted


def test_one_process_that_sees_several_gpus_trains_on_one(tmp_path: Path, tokenizer: Any) -> None:
    args = arguments(tmp_path)
    args._n_gpu = 2  # as transformers finds them
    model = mixture(tokenizer, router_input="semantic")
    with pytest.warns(UserWarning, match="torchrun --nproc-per-node 2"):
        trainer = CumaSFTTrainer(model, args, train_dataset=sentences(ROWS), processing_class=tokenizer)
    assert (trainer.args.n_gpu, trainer.args.train_batch_size) == (1, args.per_device_train_batch_size)
    assert not isinstance(trainer._wrap_model(trainer.model), torch.nn.DataParallel)


def test_what_would_lose_the_balance_loss_is_refused_by_name(tmp_path: Path, tokenizer: Any) -> None:
    def trainer(**options: Any) -> CumaSFTTrainer:
        model = mixture(tokenizer, router_input="semantic")
        args = arguments(tmp_path)
        for name, value in options.items():
            setattr(args, name, value)  # transformers would ask for the package first
        return CumaSFTTrainer(model, args, train_dataset=sentences(ROWS), processing_class=tokenizer)

    with pytest.raises(UnsupportedError, match=r"use_liger_kernel=True .* Set use_liger_kernel=False"):
        trainer(use_liger_kernel=True)
    zero3 = HfDeepSpeedConfig({"zero_optimization": {"stage": 3}})
    set_hf_deepspeed_config(zero3)
    try:
        with pytest.raises(UnsupportedError, match=r"ZeRO-3 .* Use ZeRO-2 or FSDP2"):
            trainer(gradient_checkpointing=True)
    finally:
        unset_hf_deepspeed_config()


def test_reentrant_checkpointing_is_refused_by_name(tmp_path: Path, tokenizer: Any) -> None:
    args = arguments(tmp_path, gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": True})
    model = mixture(tokenizer, router_input="semantic")
    trainer = CumaSFTTrainer(model, args, train_dataset=sentences(ROWS), processing_class=tokenizer)
    with pytest.raises(UnsupportedError, match=r'"use_reentrant": False'):
        trainer.train()


def test_a_configuration_in_the_place_of_an_adapter_makes_the_mixture(
    tmp_path: Path, tokenizer: Any, encoder: Any
) -> None:
    def trainer(model: Any) -> CumaSFTTrainer:
        return CumaSFTTrainer(
            model,
            arguments(tmp_path),
            train_dataset=sentences(ROWS),
            processing_class=tokenizer,
            profile_encoder=encoder,
            peft_config=config(profile_dim=384),
        )

    one, other = (trainer(llama(vocab_size=len(tokenizer))) for _ in range(2))
    assert same(weights(one.model), weights(other.model))  # drawn from the configuration's seed
    assert one.model.base_model.cuma_profile["default"].fitted
    assert "profile_embeds" in next(iter(one.get_train_dataloader()))
    one.train()
    assert all("aux_loss" in row for row in one.state.log_history if "loss" in row)
    with pytest.raises(ConfigError, match=r"model=cuma.load_backbone\('smollm2-135m'\).model"):
        trainer("smollm2-135m")
    with pytest.raises(ConfigError, match="Leave peft_config out"):
        trainer(mixture(tokenizer))


def test_survey_rows_are_padded_after_the_prompt_where_a_prefix_is_to_come(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"input_ids": [5, 6], "answer_tokens": [7, 8], "answer_weights": [1.0, 0.0], "profile": None}]
    trainer = CumaSFTTrainer(
        llama(vocab_size=len(tokenizer)),
        arguments(tmp_path),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
    )
    assert trainer.data_collator.tokens.padding_side == "right"


def test_a_missing_encoder_or_column_is_named(tmp_path: Path, tokenizer: Any, encoder: Any) -> None:
    model, args = mixture(tokenizer), arguments(tmp_path)
    with pytest.raises(ConfigError, match="profile_encoder"):
        CumaSFTTrainer(model, args, train_dataset=sentences(ROWS), processing_class=tokenizer)
    bare = sentences(ROWS).remove_columns("profile")
    with pytest.raises(ProfileError, match="profile"):
        CumaSFTTrainer(model, args, train_dataset=bare, processing_class=tokenizer, profile_encoder=encoder)


def test_a_model_without_a_profile_router_trains_on_the_same_data(tmp_path: Path, tokenizer: Any) -> None:
    model = mixture(tokenizer, router_input="semantic")
    trainer = CumaSFTTrainer(model, arguments(tmp_path), train_dataset=sentences(ROWS), processing_class=tokenizer)
    trainer.train()
    assert trainer.state.global_step == 2
