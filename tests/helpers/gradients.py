"""The gradients of one training step, written to a file: run alone, or in several processes by torchrun.

python tests/helpers/gradients.py OUT KIND ROWS_PER_PROCESS ACCUMULATION LAMBDA …        (five arguments a case)
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.update(ACCELERATE_USE_CPU="true", OMP_NUM_THREADS="1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from accelerate import PartialState
from datasets import Dataset
from safetensors.torch import save_file
from transformers import PrinterCallback, TrainerCallback
from trl import DPOConfig, SFTConfig

from cuma.answering.letters import SurveyTokens
from cuma.models.backbones import load_backbone
from cuma.people.encoder import ProfileEncoder
from cuma.training.batches import tokenise_answers, tokenise_cells
from cuma.training.trainers import CumaDPOTrainer, CumaSFTTrainer
from helpers.preferences import COMMON, PROMPTS, Likes, grpo, mixture

PEOPLE = ["A man living in Kenya", "A woman living in Peru", "A man living in Japan", "A woman living in Kenya"]
"""Rows 0 and 1, and rows 2 and 3, differ in the profile alone."""
ANSWERS = (" Yes, mostly.", " Yes, mostly.", " No.", " No.")
ROWS = [
    {"prompt": f"Question {i // 2}?", "chosen": answer, "rejected": " Never!", "profile": who}
    for i, (answer, who) in enumerate(zip(ANSWERS, PEOPLE, strict=True))
]
CELLS = [
    {"prompt": [{"role": "user", "content": f"Question {i}?"}], "answer_counts": counts, "profile": who}
    for i, (counts, who) in enumerate(zip(([1, 2], [40, 3, 9], [0, 6], [5, 5]), PEOPLE, strict=True))
]
"""The groups differ much in size."""
LETTERS = [
    {"prompt": cell["prompt"], "options": 3, "answer": i % 3, "weight": weight, "profile": cell["profile"]}
    for i, (cell, weight) in enumerate(zip(CELLS, (0.2, 3.0, 1.0, 0.7), strict=True))
]
"""One person each, with a survey weight."""


class Keep(TrainerCallback):
    """Writes the gradients before the first update."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if PartialState().is_main_process:
            own = {n.removeprefix("module."): p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
            save_file(own, self.out)


def rows(kind: str, tokenizer: Any) -> Dataset:
    """Four rows: pairs, texts, cells that count as their people, or weighted letters."""
    if kind == "counts":
        return tokenise_cells(Dataset.from_list(CELLS), SurveyTokens(tokenizer), counts=True)
    if kind == "letters":
        return tokenise_answers(Dataset.from_list(LETTERS), SurveyTokens(tokenizer))
    texts = [{"prompt": row["prompt"], "completion": row["chosen"], "profile": row["profile"]} for row in ROWS]
    return Dataset.from_list(ROWS if kind == "dpo" else texts)


def step(out: Path, kind: str, batch: int, accumulation: int, weight: float, tokenizer: Any, encoder: Any) -> None:
    """One step on all four rows."""
    options = COMMON | {
        "max_steps": 1,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
        "max_grad_norm": 0.0,
        "ddp_find_unused_parameters": False,
    }
    if kind == "grpo":
        reinforced(out, {**options, "router_aux_loss_coef": weight}, tokenizer, encoder)
        return
    cls, config = (CumaDPOTrainer, DPOConfig) if kind == "dpo" else (CumaSFTTrainer, SFTConfig)
    trainer = cls(
        mixture(tokenizer, router_aux_loss_coef=weight),
        config(output_dir=str(out.parent / "run"), **options),
        train_dataset=rows(kind, tokenizer),
        processing_class=tokenizer,
        profile_encoder=encoder,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Keep(out))
    trainer.train()


def reinforced(out: Path, options: dict[str, Any], tokenizer: Any, encoder: Any) -> None:
    """One step of GRPO, two replies to each of four prompts. Whatever is asked, in generation and afterwards, must be
    asked as the prompt's own person, in this process too."""
    own, asked = [encoder([row["profile"]])[0] for row in PROMPTS], {"generate": 0, "forward": 0}

    def check(call: str, asking: dict[str, Any]) -> None:
        for ids, embeds in zip(asking["input_ids"], asking["profile_embeds"], strict=True):
            prompt = tokenizer.decode(ids, skip_special_tokens=True).partition("?")[0]
            torch.testing.assert_close(embeds, own[prompt.count("again")], atol=1e-5, rtol=0)
            asked[call] += 1

    def generate(**asking: Any) -> Any:
        check("generate", asking)
        return plain(**asking)

    reward, model = Likes(), mixture(tokenizer)
    trainer = grpo(out.parent / "run", tokenizer, encoder, reward, model, **options)
    plain, model.generate = model.generate, generate
    model.register_forward_pre_hook(lambda _, __, asking: check("forward", asking), with_kwargs=True)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Keep(out))
    trainer.train()
    rows = 8 // PartialState().num_processes
    assert asked["generate"] == rows == len(reward.rows), asked
    assert asked["forward"] >= 2 * rows, asked  # the policy and its reference
    known = {row["prompt"]: row["profile"] for row in PROMPTS}
    assert all(known[prompt] == profile for prompt, profile in reward.rows)


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
