"""vLLM with a mixture says what transformers with cuma says, to many people in one batch."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.engines import ask, engine

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
