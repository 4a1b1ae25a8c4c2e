"""vLLM with a mixture says what transformers with cuma says, to many people in one batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.engines import ask, engine
from vllm.v1.core.sched.scheduler import Scheduler

CASES = (
    *(f"llama-{name}" for name in (
        "joint", "person_only", "semantic", "own_routers", "shared_a", "released", "linear_projection", "experts_read",
        "soft_one_layer", "person_only_experts_read",
    )),
    "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3", "granite", "olmo", "olmo2", "smollm2",
)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_one_batch_is_its_rows_one_by_one(case: str, reference: Path) -> None:
    """And again from the prefix cache."""
    with engine(reference / case) as llm:
        first = ask(llm, reference / case)
        again = ask(llm, reference / case)
    assert first.exact, first
    assert again.exact, again
    assert again.cached > first.cached, "nothing came from the prefix cache"


def test_without_the_salt_people_get_each_others_cache(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: what is tested above notices it."""
    monkeypatch.setattr("cuma_vllm.seams.salt_of", lambda vector, given: given)
    with engine(reference / "llama-experts_read") as llm:
        ask(llm, reference / "llama-experts_read")
        said = ask(llm, reference / "llama-experts_read")
    assert said.equal < said.rows / 2, said


def test_prompts_in_chunks(reference: Path) -> None:
    with engine(reference / "llama-experts_read", max_num_batched_tokens=48, max_num_seqs=16) as llm:
        said = ask(llm, reference / "llama-experts_read")
    assert said.exact, said


def test_requests_that_were_preempted(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With so few blocks that replies must wait for each other's in the middle."""
    preempted = []
    original = Scheduler._preempt_request

    def counted(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        preempted.append(request.request_id)
        return original(self, request, *args, **kwargs)

    monkeypatch.setattr(Scheduler, "_preempt_request", counted)
    with engine(reference / "llama-experts_read", num_gpu_blocks_override=36) as llm:
        said = ask(llm, reference / "llama-experts_read")
    assert preempted
    assert said.exact, said


def test_compiled(reference: Path) -> None:
    with engine(reference / "llama-experts_read", enforce_eager=False) as llm:
        first, again = (ask(llm, reference / "llama-experts_read") for _ in range(2))
    assert first.exact, first
    assert again.exact, again


def test_few_seats_and_many_people(reference: Path) -> None:
    """Slots are used again by others; what was in them does not stay."""
    with engine(reference / "llama-person_only", max_num_seqs=3) as llm:
        said = ask(llm, reference / "llama-person_only")
    assert said.exact, said
