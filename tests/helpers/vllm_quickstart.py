"""First half of `make vllm`: what transformers with cuma says, with a trained run, to 32 people one by one.

    python -m helpers.vllm_quickstart RUN DIR      # the second half, `support.table`, runs in vLLM's environment

Writes three cases as `helpers.vllm_reference` does: `float32/`, and for four people `bfloat16/` and, without the
mixture, `bfloat16-base/`.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from cuma.answering.answerer import Answerer, Answerers
from cuma.answering.letters import SurveyTokens
from cuma.data.catalog import load_benchmark
from cuma.data.surveys.prompts import question_orders, survey_messages
from cuma.data.surveys.survey import Question
from cuma.models.backbones import load_tokenizer
from cuma.people.profiles import Profile
from helpers.vllm_reference import asked

PEOPLE, FEW, NEW = 32, 4, 12
BLOCK = 32
"""Tokens of a block of vLLM's cache; the prompt nearly fills its last one, so that replies need another."""


def inputs(answerer: Answerer) -> tuple[Tensor, Tensor]:
    """(prompt [1, T] of three questions, who [32, D]): the benchmark's own people, and nobody in particular."""
    survey = load_benchmark("gss")
    profiles = [Profile(), *(group.profile for group in survey.groups)][:PEOPLE]
    embeds = answerer.embeds(profiles)
    assert embeds is not None
    tokens = SurveyTokens(answerer.tokenizer)
    prompts = (tokens.prompt(_in_turn(*three)) for three in itertools.permutations(survey.questions, 3))
    fitting = next(prompt for prompt in prompts if len(prompt) > 2 * BLOCK and len(prompt) % BLOCK > BLOCK - NEW)
    return torch.tensor([fitting]), embeds


def _in_turn(first: Question, *others: Question) -> list[dict[str, str]]:
    """Questions that were answered, and a last one."""
    messages = survey_messages(first, question_orders(first)[0])
    for question in others:
        asked_next = survey_messages(question, question_orders(question)[0])[1]
        messages = [*messages, {"role": "assistant", "content": "A"}, asked_next]
    return messages


def write(folder: Path, answerer: Answerer, model: Any, prompt: Tensor, who: Tensor) -> None:
    """One case."""
    folder.mkdir(parents=True, exist_ok=True)
    section = answerer.source.backbone
    base = load_tokenizer(section.model_name_or_path, revision=section.revision)[1]
    assert answerer.source.adapter is not None
    for name, target in (("base", base), ("adapter", answerer.source.adapter)):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target.resolve())
    rows = prompt.repeat(len(who), 1)
    save_file({"prompts": rows, "who": who, **asked(model, rows, who, NEW)}, folder / "expected.safetensors")
    print(f"{folder.name}: {len(who)} people asked one by one", flush=True)


def main() -> None:
    run, folder = map(Path, sys.argv[1:])
    answerer = Answerers(device="cpu").load(run)
    prompt, who = inputs(answerer)
    write(folder / "float32", answerer, answerer.model, prompt, who)
    answerer.model.to(torch.bfloat16)
    for module in answerer.model.modules():  # experts and routers stay as they were trained, as cuma loads them
        if type(module).__name__ in ("Experts", "Router", "Standardiser"):
            module.float()
    write(folder / "bfloat16", answerer, answerer.model, prompt, who[:FEW])
    with answerer.model.disable_adapter():
        base = answerer.model.get_base_model()
        write(folder / "bfloat16-base", answerer, base, prompt, torch.zeros(1, 0))


if __name__ == "__main__":
    main()
