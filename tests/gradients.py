"""The gradients of one training step, written to a file: run alone, or in several processes by torchrun.

python tests/gradients.py OUT KIND ROWS_PER_PROCESS ACCUMULATION LAMBDA …        (five arguments a case)
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.update(ACCELERATE_USE_CPU="true", OMP_NUM_THREADS="1")
sys.path.insert(0, str(Path(__file__).parent))

import torch
from accelerate import PartialState
from datasets import Dataset
from safetensors.torch import save_file
from transformers import PrinterCallback, TrainerCallback
from trl import DPOConfig, SFTConfig

from cuma.backbones import load_backbone
from cuma.training.trainers import CumaDPOTrainer, CumaSFTTrainer
from cuma.tuner.encoder import ProfileEncoder
from preferences import COMMON, mixture

PEOPLE = ["A man living in Kenya", "A woman living in Peru", "A man living in Japan", "A woman living in Kenya"]
"""Rows 0 and 1, and rows 2 and 3, differ in the profile alone."""
ANSWERS = (" Yes, mostly.", " Yes, mostly.", " No.", " No.")
ROWS = [
    {"prompt": f"Question {i // 2}?", "chosen": answer, "rejected": " Never!", "profile": who}
    for i, (answer, who) in enumerate(zip(ANSWERS, PEOPLE, strict=True))
]


class Keep(TrainerCallback):
    """Writes the gradients before the first update."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if PartialState().is_main_process:
            own = {n.removeprefix("module."): p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
            save_file(own, self.out)


def step(out: Path, kind: str, batch: int, accumulation: int, weight: float, tokenizer: Any, encoder: Any) -> None:
    """One step on all four rows."""
    options = COMMON | {
        "max_steps": 1,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
        "max_grad_norm": 0.0,
        "ddp_find_unused_parameters": False,
    }
    cls, config = {"sft": (CumaSFTTrainer, SFTConfig), "dpo": (CumaDPOTrainer, DPOConfig)}[kind]
    sft = [{"prompt": row["prompt"], "completion": row["chosen"], "profile": row["profile"]} for row in ROWS]
    trainer = cls(
        mixture(tokenizer, router_aux_loss_coef=weight),
        config(output_dir=str(out.parent / "run"), **options),
        train_dataset=Dataset.from_list(sft if kind == "sft" else ROWS),
        processing_class=tokenizer,
        profile_encoder=encoder,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Keep(out))
    trainer.train()


def main(cases: list[str]) -> None:
    """All cases, one after another: starting Python costs more than they do."""
    torch.set_num_threads(1)
    tokenizer, encoder = load_backbone("smollm2-135m").tokenizer, ProfileEncoder.from_pretrained("minilm")
    for place in range(0, len(cases), 5):
        out, kind, batch, accumulation, weight = cases[place : place + 5]
        step(Path(out), kind, int(batch), int(accumulation), float(weight), tokenizer, encoder)


if __name__ == "__main__":
    main(sys.argv[1:])
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
