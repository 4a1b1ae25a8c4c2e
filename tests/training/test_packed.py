"""Padding-free batches and packing: the same loss and gradients as padded rows, each token with its own person."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from trl import DPOConfig, SFTConfig

from cuma.errors import ConfigError, ProfileError, UnsupportedError
from cuma.models.backbones import load_backbone
from cuma.people.encoder import ProfileEncoder
from cuma.people.profile_table import ProfileTable
from cuma.training.trainers import CumaDPOTrainer, CumaSFTTrainer
from helpers.tiny import adapted, llama, people, tokens

ANSWERS = [" Rice.", " Potatoes and maize, mostly.", " Tea, with milk and sugar.", " Water."]
PEOPLE = ["A man living in Japan", "A woman living in Peru", "A man living in Kenya", "A woman living in Peru"]
ROWS = [
    {"prompt": f"Question {i // 2}: what do you like?", "completion": answer, "profile": who}
    for i, (answer, who) in enumerate(zip(ANSWERS, PEOPLE, strict=True))
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_backbone("smollm2-135m").tokenizer


@pytest.fixture(scope="module")
def table() -> ProfileTable:
    return ProfileTable(ProfileEncoder.from_pretrained("minilm"), PEOPLE)


def trainer_of(folder: Path, tokenizer: Any, table: ProfileTable, **options: Any) -> CumaSFTTrainer:
    defaults: dict[str, Any] = {
        "max_steps": 1,
        "per_device_train_batch_size": 4,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "gradient_checkpointing": False,
        "bf16": False,
    }
    model = adapted(llama(vocab_size=len(tokenizer)), profile_dim=384, router_aux_loss_coef=0.3)
    return CumaSFTTrainer(
        model,
        SFTConfig(output_dir=str(folder), **(defaults | options)),
        train_dataset=Dataset.from_list(ROWS),
        processing_class=tokenizer,
        profile_table=table,
    )


def first_step(trainer: CumaSFTTrainer) -> tuple[float, dict[str, Tensor]]:
    """The loss and the gradients of the first batch, the balance loss included."""
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    return loss.item(), {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}


WAYS: dict[str, dict[str, Any]] = {
    "padding_free": {"padding_free": True, "max_length": None},
    "padding_free, padded at the end": {"padding_free": True, "max_length": None, "pad_to_multiple_of": 64},
    "packing": {"packing": True, "max_length": 40},
    "packing in one row": {"packing": True, "max_length": 200},
}


@pytest.mark.parametrize("way", WAYS)
def test_the_loss_and_all_gradients_are_those_of_padded_rows(
    tmp_path: Path, tokenizer: Any, table: ProfileTable, way: str
) -> None:
    loss, expected = first_step(trainer_of(tmp_path, tokenizer, table))
    packed = trainer_of(tmp_path, tokenizer, table, **WAYS[way])
    found, gradients = first_step(packed)
    assert found == pytest.approx(loss, rel=1e-5)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_each_token_has_its_own_person(tmp_path: Path, tokenizer: Any, table: ProfileTable) -> None:
    trainer = trainer_of(tmp_path, tokenizer, table, packing=True, max_length=40, pad_to_multiple_of=16)
    batch = next(iter(trainer.get_train_dataloader()))
    starts = batch["cu_seq_lens_q"].tolist()
    texts = {tokenizer.decode(batch["input_ids"][0, a:b]): (a, b) for a, b in itertools.pairwise(starts)}
    for row in ROWS:
        a, b = next(place for text, place in texts.items() if row["completion"] in text)
        whose = batch["profile_rows"][0, a:b]
        whose = whose[whose >= 0]
        assert len(whose.unique()) == 1
        torch.testing.assert_close(batch["profile_embeds"][whose[0]], table([row["profile"]])[0])
    padding = batch["labels"].shape[1] - sum(len(t["input_ids"]) for t in trainer.train_dataset)
    assert int((batch["profile_rows"] == -1).sum()) == padding


def test_training_packed_logs_the_routers_figures(tmp_path: Path, tokenizer: Any, table: ProfileTable) -> None:
    trainer = trainer_of(tmp_path, tokenizer, table, packing=True, max_length=40, max_steps=2)
    trainer.train()
    log = next(row for row in trainer.state.log_history if "loss" in row)
    assert {"aux_loss", "gate_entropy", "dead_experts", "expert_group_mi"} <= log.keys()
    padded = trainer_of(tmp_path, tokenizer, table, max_steps=2)
    padded.train()
    other = next(row for row in padded.state.log_history if "loss" in row)
    assert log["gate_entropy"] == pytest.approx(other["gate_entropy"], rel=1e-4)
    assert log["expert_group_mi"] == pytest.approx(other["expert_group_mi"], abs=0.05)


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"packing": True, "packing_strategy": "wrapped"}, UnsupportedError, "wrapped.*'bfd'"),
        ({"eval_packing": True}, UnsupportedError, "eval_packing=False"),
        ({"packing": True, "max_length": None}, ConfigError, "max_length"),
    ],
)
def test_what_would_mix_peoples_texts_is_refused_by_name(
    tmp_path: Path, tokenizer: Any, table: ProfileTable, options: dict[str, Any], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        trainer_of(tmp_path, tokenizer, table, **options)


def test_preference_training_takes_padded_rows_only(tmp_path: Path, tokenizer: Any, table: ProfileTable) -> None:
    rows = [{"prompt": "Tea?", "chosen": " Yes.", "rejected": " No.", "profile": who} for who in PEOPLE]
    with pytest.raises(UnsupportedError, match=r"padding_free=True .* Set padding_free=False"):
        CumaDPOTrainer(
            adapted(llama(vocab_size=len(tokenizer)), profile_dim=384),
            DPOConfig(output_dir=str(tmp_path), padding_free=True, report_to="none", bf16=False),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            profile_table=table,
        )


# ---- the model's own side --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"router_input": "profile"}, {"profile_in_experts": True}])
@torch.no_grad()
def test_packed_logits_are_those_of_each_person_alone(options: dict[str, Any]) -> None:
    model, lengths = adapted(**options), (7, 3, 5)
    rows = [tokens(1, length, seed=length) for length in lengths]
    alone = torch.cat([model(input_ids=row, profile_embeds=people(3)[[i]]).logits for i, row in enumerate(rows)], 1)
    of_tokens = torch.arange(3).repeat_interleave(torch.tensor(lengths))[None]
    packed = model(
        input_ids=torch.cat(rows, 1),
        position_ids=torch.cat([torch.arange(length) for length in lengths])[None],
        profile_embeds=people(3),
        profile_rows=of_tokens,
        use_cache=False,
    ).logits
    torch.testing.assert_close(packed, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (torch.zeros(2, 7), "integer"),
        (torch.zeros(7, dtype=torch.long), "integer"),
        (torch.full((2, 7), 3), "0 to 2"),
        (torch.full((2, 7), -2), "-2"),
        (torch.zeros(2, 6, dtype=torch.long), r"\[2, 6\]"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows: Tensor, reason: str) -> None:
    with pytest.raises(ProfileError, match=reason):
        adapted()(input_ids=tokens(2), profile_embeds=people(3), profile_rows=rows)
