"""Engines in this process, and what they say beside what transformers with cuma says."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from vllm import LLM, SamplingParams
from vllm.distributed import cleanup_dist_env_and_memory

from cuma_vllm.options import engine_options
from cuma_vllm.person import person

BLOCK = 32
"""Tokens of a cache block; CPUs take multiples of it."""
TIE = 1e-3
"""Two likeliest tokens closer than this may change places."""


@dataclass
class Said:
    """What an engine said beside what it should."""

    equal: int
    """Rows whose tokens are equal up to the first near tie, if there is one."""
    rows: int
    worst: float
    """Largest difference of a log-probability before that."""
    cached: int
    """Prompt tokens that came from the prefix cache, over all rows."""

    @property
    def exact(self) -> bool:
        return self.equal == self.rows and self.worst < 1e-4


@contextmanager
def engine(case: Path, mixture: bool = True, **options: Any) -> Iterator[LLM]:
    """vLLM with a case's mixture, or its base alone."""
    model = engine_options(case / "base", case / "adapter") if mixture else {"model": str(case / "base")}
    settings = {"dtype": "float32", "enforce_eager": True, "max_model_len": 128, "max_num_seqs": 16,
                "block_size": BLOCK, "skip_tokenizer_init": True, **model, **options}  # fmt: skip
    made = LLM(**settings)
    try:
        yield made
    finally:
        del made
        gc.collect()
        cleanup_dist_env_and_memory()
        gc.collect()


def expected(case: Path) -> dict[str, Tensor]:
    return load_file(case / "expected.safetensors")


def ask(llm: LLM, case: Path, rows: list[int] | None = None, **sampling: Any) -> Said:
    """All of a case's rows in one batch."""
    known = expected(case)
    chosen = range(len(known["prompts"])) if rows is None else rows
    params = [
        SamplingParams(
            temperature=0, max_tokens=known["tokens"].shape[1], logprobs=0, ignore_eos=True, detokenize=False,
            extra_args=person(known["who"][row]) if known["who"].numel() else None, **sampling,
        )
        for row in chosen
    ]  # fmt: skip
    prompts = [{"prompt_token_ids": known["prompts"][row].tolist()} for row in chosen]
    outputs = llm.generate(prompts, params, use_tqdm=False)
    return _compared(known, list(chosen), outputs)


def _compared(known: dict[str, Tensor], rows: list[int], outputs: list[Any]) -> Said:
    equal, worst = 0, 0.0
    for row, output in zip(rows, outputs, strict=True):
        said = output.outputs[0]
        near = (known["ahead"][row] <= TIE).nonzero()
        until = int(near[0]) if len(near) else len(known["tokens"][row])
        right = list(said.token_ids)[:until] == known["tokens"][row, :until].tolist()
        equal += right
        if right:
            found = torch.tensor(
                [step[token].logprob for step, token in zip(said.logprobs, said.token_ids, strict=True)]
            )
            worst = max([worst, *(found - known["logprobs"][row])[:until].abs().tolist()])
    return Said(equal, len(rows), worst, sum(output.num_cached_tokens or 0 for output in outputs))
