"""The private seams of TRL that CumaSFTTrainer leans on. Each test also shows what breaks without its seam."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from cuma.errors import ProfileError
from cuma.models.backbones import load_backbone
from cuma.people.encoder import ProfileEncoder
from cuma.training.trainers import CumaSFTTrainer
from helpers.tiny import adapted, llama

ROWS = [
    {"prompt": "Where?", "completion": " Here.", "profile": "A man living in Kenya"},
    {"prompt": "When?", "completion": " Now and then.", "profile": "A woman living in Peru"},
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_backbone("smollm2-135m").tokenizer


@pytest.fixture(scope="module")
def encoder() -> ProfileEncoder:
    return ProfileEncoder.from_pretrained("minilm")


def trainer(folder: Path, tokenizer: Any, encoder: Any, cls: type = CumaSFTTrainer) -> Any:
    args = SFTConfig(
        output_dir=str(folder),
        per_device_train_batch_size=2,
        gradient_checkpointing=False,
        bf16=False,
        report_to="none",
        dataloader_pin_memory=False,
    )
    model = adapted(llama(vocab_size=len(tokenizer)), profile_dim=384).train()
    return cls(model, args, train_dataset=Dataset.from_list(ROWS), processing_class=tokenizer, profile_encoder=encoder)


def batch_of(made: Any) -> dict[str, torch.Tensor]:
    return next(iter(made.get_train_dataloader()))


def test_signature_columns_decide_what_reaches_the_collator(tmp_path: Path, tokenizer: Any, encoder: Any) -> None:
    assert "profile_embeds" in batch_of(trainer(tmp_path, tokenizer, encoder))

    class Without(CumaSFTTrainer):
        _set_signature_columns_if_needed = SFTTrainer._set_signature_columns_if_needed

    with pytest.raises(ProfileError, match="profile"):
        batch_of(trainer(tmp_path, tokenizer, encoder, Without))


def test_the_mixture_of_experts_path_adds_and_logs_the_balance_loss(
    tmp_path: Path, tokenizer: Any, encoder: Any
) -> None:
    made = trainer(tmp_path, tokenizer, encoder)
    batch = batch_of(made)
    assert made.aux_loss_enabled
    with_balance = made.compute_loss(made.model, dict(batch))
    (balance,) = made._metrics["train"]["aux_loss"]
    made.aux_loss_enabled = False  # the seam patched away
    without = made.compute_loss(made.model, dict(batch))
    assert len(made._metrics["train"]["aux_loss"]) == 1
    torch.testing.assert_close(with_balance - without, torch.tensor(0.01 * balance), atol=1e-6, rtol=1e-3)


def test_the_fused_head_scores_each_row_for_its_own_person(tmp_path: Path, tokenizer: Any, encoder: Any) -> None:
    made = trainer(tmp_path, tokenizer, encoder)
    made.aux_loss_enabled = False
    batch = batch_of(made)
    loss = made.compute_loss(made.model, dict(batch))
    logits = made.model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], profile_embeds=batch["profile_embeds"]
    ).logits
    expected = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=-100
    )
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    swapped = {**batch, "profile_embeds": batch["profile_embeds"].flip(0)}
    assert not torch.isclose(made.compute_loss(made.model, swapped), loss, atol=1e-6)


def test_a_skipped_preparation_leaves_survey_rows_as_they_are(tmp_path: Path, tokenizer: Any, encoder: Any) -> None:
    rows = [
        {"input_ids": [5, 6, 7], "answer_tokens": [49, 50], "answer_weights": [0.2, 0.8], "profile": row["profile"]}
        for row in ROWS
    ]
    args = SFTConfig(output_dir=str(tmp_path), report_to="none", gradient_checkpointing=False, bf16=False)
    model = adapted(llama(vocab_size=len(tokenizer)), profile_dim=384)

    def prepared() -> list[dict[str, Any]]:
        options = {"train_dataset": Dataset.from_list(rows), "processing_class": tokenizer}
        return list(CumaSFTTrainer(model, args, profile_encoder=encoder, **options).train_dataset)

    assert prepared() == rows
    with pytest.MonkeyPatch.context() as patched:
        init = SFTTrainer.__init__

        def forgetful(self: Any, model: Any, args: SFTConfig, **kwargs: Any) -> None:
            args.dataset_kwargs = None  # the seam patched away
            init(self, model, args, **kwargs)

        patched.setattr(SFTTrainer, "__init__", forgetful)
        assert prepared() != rows


def test_a_steps_batches_are_known_before_its_first_loss(tmp_path: Path, tokenizer: Any) -> None:
    rows = [
        {"input_ids": [5, 6], "answer_tokens": [7, 8], "answer_weights": [1.0, 2.0], "profile": None},
        {"input_ids": [9, 6], "answer_tokens": [7, 8], "answer_weights": [90.0, 0.0], "profile": None},
    ]

    class Without(CumaSFTTrainer):
        get_batch_samples = SFTTrainer.get_batch_samples

    def loss(cls: type, batch: int, parts: int) -> float:
        model = adapted(llama(vocab_size=len(tokenizer)), router_input="semantic", router_aux_loss_coef=0)
        sizes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": parts, "max_steps": 1}
        args = SFTConfig(
            str(tmp_path), **sizes, gradient_checkpointing=False, bf16=False, report_to="none", save_strategy="no"
        )
        made = cls(model, args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
        return made.train().training_loss

    whole = loss(CumaSFTTrainer, 2, 1)
    assert loss(Without, 2, 1) == whole  # alone, a batch is what it was
    assert loss(CumaSFTTrainer, 1, 2) == pytest.approx(whole, rel=1e-5)
    assert loss(Without, 1, 2) != pytest.approx(whole, rel=1e-2)
