"""Non-finite numbers stop a run within the step, and nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from trl import SFTConfig

from cuma.errors import TrainingError
from cuma.models.backbones import load_backbone
from cuma.people.encoder import ProfileEncoder
from cuma.training.checkpoints import SealCheckpoints, newest_whole
from cuma.training.trainers import CumaSFTTrainer
from helpers.preferences import mixture

ROWS = [
    {"prompt": f"Question {number}?", "completion": " Yes.", "profile": f"A man living in {country}"}
    for number, country in enumerate(["Kenya", "Peru", "Japan", "Chad"])
]


class Breaks(CumaSFTTrainer):
    """A trainer whose third step goes wrong."""

    spoils = "loss"

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)
        if self.state.global_step < 2:
            return loss
        if self.spoils == "loss":
            return loss * float("nan")
        # The value stays finite, the slope does not: the square root of 0.
        return loss + (loss - loss.detach()).abs().sqrt()


@pytest.mark.parametrize("spoils", ["loss", "gradient"])
def test_a_run_stops_before_the_update(tmp_path: Path, spoils: str) -> None:
    tokenizer = load_backbone("smollm2-135m").tokenizer
    args = SFTConfig(
        output_dir=str(tmp_path),
        max_steps=6,
        save_steps=1,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        report_to="none",
        disable_tqdm=True,
        gradient_checkpointing=False,
        bf16=False,
    )
    trainer = Breaks(
        mixture(tokenizer),
        args,
        train_dataset=Dataset.from_list(ROWS),
        processing_class=tokenizer,
        profile_encoder=ProfileEncoder.from_pretrained("minilm"),
        callbacks=[SealCheckpoints()],
    )
    trainer.spoils = spoils
    with pytest.raises(TrainingError, match=f"the {spoils} of step 3"):
        trainer.train()
    assert trainer.state.global_step == 2
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())
    newest = newest_whole(tmp_path)
    assert newest is not None
    assert newest.name == "checkpoint-2"
