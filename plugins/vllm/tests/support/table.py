"""Second half of `make vllm`: vLLM beside what transformers with cuma said, as a table.

python -m support.table DIR      # what `python -m helpers.vllm_quickstart RUN DIR` wrote
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from support.engines import BLOCK, Said, ask, engine, expected

ROOM = {"max_model_len": 512, "max_num_seqs": 32, "max_num_batched_tokens": 2048}


def eager(case: Path) -> tuple[Said, Said]:
    """A batch, and the same again from the prefix cache."""
    with engine(case, **ROOM) as llm:
        return ask(llm, case), ask(llm, case)


def one(case: Path, **options: Any) -> Said:
    """A batch under other options."""
    with engine(case, **(ROOM | options)) as llm:
        return ask(llm, case)


def preempted(case: Path) -> Said:
    """With room for a third of the people at a time, so that some must wait in the middle of their replies."""
    from vllm.v1.core.sched.scheduler import Scheduler

    times, original = [], Scheduler._preempt_request

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        times.append(1)
        return original(self, *args, **kwargs)

    with patch.object(Scheduler, "_preempt_request", counted):
        said = one(case, num_gpu_blocks_override=blocks_of(case) * 11 + 2)
    if not times:
        raise SystemExit("nobody was preempted: the row below would show nothing")
    return said


def blocks_of(case: Path) -> int:
    """Blocks that the prompt alone needs."""
    return -(-expected(case)["prompts"].shape[1] // BLOCK)


def control(case: Path) -> Said:
    """Without the salt: must be wrong."""
    with patch("cuma_vllm.seams.salt_of", lambda vector, given: given), engine(case, **ROOM) as llm:
        ask(llm, case)
        return ask(llm, case)


def row(name: str, said: Said) -> None:
    """One line of the table."""
    print(f"| {name} | {said.equal} of {said.rows} | {said.worst:.1e} | {said.cached} |", flush=True)


def main() -> int:
    folder = Path(sys.argv[1])
    full = folder / "float32"
    print("| | equal sequences | largest difference of a log-probability | prompt tokens from the cache |")
    print("| --- | ---: | ---: | ---: |")
    first, again = eager(full)
    row("fp32, one batch of 32 people", first)
    row("the same again, from the prefix cache", again)
    more: dict[str, Callable[[], Said]] = {
        "prompts in chunks of 64 tokens": lambda: one(full, max_num_batched_tokens=64),
        "some preempted": lambda: preempted(full),
        "compiled": lambda: one(full, enforce_eager=False),
    }
    exact = [first, again]
    for name, run in more.items():
        exact.append(run())
        row(name, exact[-1])
    wrong = control(full)
    row("control, without the salt", wrong)
    row("bf16, four people", one(folder / "bfloat16", dtype="bfloat16"))
    row("bf16, the base alone", one(folder / "bfloat16-base", dtype="bfloat16", mixture=False))
    if all(said.exact for said in exact) and not wrong.exact:
        print("\nEvery fp32 row is exact, and the control is not.")
        return 0
    print("\nNot exact.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
