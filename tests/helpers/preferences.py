"""Tiny DPO and GRPO trainers whose every row has a person of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import DPOConfig, GRPOConfig

from cuma.training.trainers import CumaDPOTrainer, CumaGRPOTrainer
from helpers.tiny import adapted, llama

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


def mixture(tokenizer: Any, **options: Any) -> Any:
    return adapted(llama(vocab_size=len(tokenizer)), profile_dim=384, **options)


def dpo(
    folder: Path, tokenizer: Any, encoder: Any, model: Any = None, cls: type = CumaDPOTrainer, **options: Any
) -> Any:
    return cls(
        mixture(tokenizer) if model is None else model,
        DPOConfig(output_dir=str(folder), **(COMMON | options)),
        train_dataset=Dataset.from_list(PAIRS),
        processing_class=tokenizer,
        profile_encoder=encoder,
    )


def grpo(
    folder: Path,
    tokenizer: Any,
    encoder: Any,
    reward: Any,
    model: Any = None,
    cls: type = CumaGRPOTrainer,
    **options: Any,
) -> Any:
    own = {"num_generations": 2, "per_device_train_batch_size": 4, "max_completion_length": 4, "beta": 0.04}
    return cls(
        mixture(tokenizer) if model is None else model,
        reward,
        GRPOConfig(output_dir=str(folder), **(COMMON | own | options)),
        train_dataset=Dataset.from_list(PROMPTS),
        processing_class=tokenizer,
        profile_encoder=encoder,
    )


class Likes:
    """A reward that notes whom it was called for."""

    def __init__(self) -> None:
        self.__name__ = "likes"
        self.rows: list[tuple[str, str]] = []

    def __call__(self, prompts: list[str], completions: list[str], profile: list[str], **_: Any) -> list[float]:
        self.rows += list(zip(prompts, profile, strict=True))
        return [float(index % 2) for index in range(len(completions))]
