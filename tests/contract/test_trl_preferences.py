"""The private seams of TRL's DPO and GRPO trainers; each test also shows what breaks without its seam."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from trl import DPOTrainer, GRPOTrainer
from trl.trainer import utils
from trl.trainer.dpo_trainer import DataCollatorForPreference

from cuma.errors import ProfileError
from cuma.models.backbones import load_backbone
from cuma.people.encoder import ProfileEncoder
from cuma.training import routed
from cuma.training.trainers import CumaDPOTrainer, CumaGRPOTrainer
from helpers.preferences import PAIRS, PROMPTS, Likes, dpo, grpo


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_backbone("smollm2-135m").tokenizer


@pytest.fixture(scope="module")
def encoder() -> ProfileEncoder:
    return ProfileEncoder.from_pretrained("minilm")


def check_people(tokenizer: Any, encoder: ProfileEncoder, ids: torch.Tensor, embeds: torch.Tensor, rows: Any) -> None:
    """Every row of tokens has the embedding of the person whose prompt stands in it."""
    assert len(ids) == len(embeds)
    for text, own in zip(tokenizer.batch_decode(ids, skip_special_tokens=True), embeds, strict=True):
        row = max((row for row in rows if row["prompt"] in text), key=lambda row: len(row["prompt"]))
        torch.testing.assert_close(own, encoder([row["profile"]])[0], atol=1e-6, rtol=0)


def test_preference_batches_are_chosen_then_rejected(tmp_path: Path, tokenizer: Any, encoder: Any) -> None:
    def holds() -> None:
        batch = next(iter(dpo(tmp_path, tokenizer, encoder).get_train_dataloader()))
        assert len(batch["input_ids"]) == 4
        check_people(tokenizer, encoder, batch["input_ids"], batch["profile_embeds"], PAIRS)

    holds()
    with pytest.MonkeyPatch.context() as patched:
        original = DataCollatorForPreference.torch_call

        def interleaved(self: Any, examples: Any) -> Any:
            batch = original(self, examples)
            return {name: rows[[0, 2, 1, 3]] for name, rows in batch.items()}

        patched.setattr(DataCollatorForPreference, "torch_call", interleaved)
        with pytest.raises(AssertionError):
            holds()


def test_signature_columns_keep_the_profile_for_dpo(tmp_path: Path, tokenizer: Any, encoder: Any) -> None:
    class Without(CumaDPOTrainer):
        _set_signature_columns_if_needed = DPOTrainer._set_signature_columns_if_needed

    with pytest.raises(ProfileError, match="profile"):
        next(iter(dpo(tmp_path, tokenizer, encoder, cls=Without).get_train_dataloader()))


def people_follow(cls: type, folder: Path, tokenizer: Any, encoder: Any) -> None:
    """Two batches a generation, two passes over each: chunks of rows, a shuffle, and everybody still in their row."""
    options = {"num_iterations": 2, "steps_per_generation": 2, "max_steps": 4}
    trainer = grpo(folder, tokenizer, encoder, Likes(), cls=cls, **options)
    tuner = trainer.model.base_model
    seen: list[str] = []
    for name in ("forward", "generate"):
        original = getattr(tuner, name)

        def spy(*args: Any, _name: str = name, _original: Any = original, **kwargs: Any) -> Any:
            output = _original(*args, **kwargs)
            seen.append(_name)
            check_people(tokenizer, encoder, kwargs["input_ids"], kwargs["profile_embeds"], PROMPTS)
            return output

        setattr(tuner, name, spy)
    trainer.train()
    assert set(seen) == {"forward", "generate"}


@pytest.mark.parametrize(
    ("seam", "error"),
    [
        ("_tokenize_prompts", ProfileError),
        ("_get_per_token_logps_and_entropies", ProfileError),
        ("_generate_and_score_completions", ProfileError),
        ("_compute_loss", AssertionError),
    ],
)
def test_grpos_rows_keep_their_people(
    tmp_path: Path, tokenizer: Any, encoder: Any, seam: str, error: type[Exception]
) -> None:
    people_follow(CumaGRPOTrainer, tmp_path, tokenizer, encoder)
    without = type("Without", (CumaGRPOTrainer,), {seam: getattr(GRPOTrainer, seam)})
    with pytest.raises(error):
        people_follow(without, tmp_path, tokenizer, encoder)


def test_only_the_reply_is_scored(tmp_path: Path, tokenizer: Any, encoder: Any, monkeypatch: Any) -> None:
    """On a CPU TRL's head scores prompts too; inside `train` ours does not, and the losses are the same."""
    scored: list[int] = []
    head = utils._ChunkedLogProbFunction

    class Counting:
        @staticmethod
        def apply(hidden: torch.Tensor, *args: Any) -> Any:
            scored.append(len(hidden))
            return head.apply(hidden, *args)

    monkeypatch.setattr(utils, "_ChunkedLogProbFunction", Counting)

    def trained(folder: Path) -> tuple[float, int]:
        scored.clear()
        trainer = dpo(folder, tokenizer, encoder)
        trainer.train()
        return trainer.state.log_history[0]["loss"], max(scored)

    compact = trained(tmp_path / "compact")
    monkeypatch.setattr(routed, "compact_head", nullcontext)  # without the seam
    whole = trained(tmp_path / "whole")
    assert compact[0] == pytest.approx(whole[0], abs=1e-5)
    assert compact[1] < whole[1]  # half: these prompts are as long as the replies
