"""What an evaluation says before it starts: how many prompts, about how long that takes, and how to ask fewer."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm.auto import tqdm

from cuma.evaluation.answer_log import AnswerLog
from cuma.evaluation.predict import LocalModel

TIMED = 2
"""Batches whose time is taken, after one that is not: the first also loads and allocates."""


def tell_prompts(rows: Sequence[Mapping[str, Any]], label: str, in_orders: bool, then: str = "") -> None:
    """Say on standard error how many prompts there are; with `in_orders` also how to ask fewer. then: what follows."""
    cells = len({(row["group"], row["question_id"]) for row in rows})
    text = f"{label}: {len(rows):,} prompt{'' if len(rows) == 1 else 's'}{then}."
    if in_orders and cells < len(rows):
        text += f" Fewer: --option-orders fixed asks {cells:,}, each question in one order of its options."
    tqdm.write(text, file=sys.stderr)


def tell_time(asking: LocalModel, rows: Sequence[dict[str, Any]], log: AnswerLog, record: bool) -> str:
    """About how long the rest takes, for `tell_prompts`, after a few batches that stay in `log`; else nothing.

    record: as in `LocalModel.answer`.
    """
    size = asking.batch_size
    batches = math.ceil(len(rows) / size)
    answered = sum(log.get(str(start)) is not None for start in range(0, len(rows), size))
    known = f", {answered:,} of {batches:,} batches are answered" if answered else ""
    left = batches - answered - 1 - TIMED
    if left <= 0:
        return known
    asking.answer(rows[: (answered + 1) * size], None, log, record=record)
    started = time.monotonic()
    asking.answer(rows[: (answered + 1 + TIMED) * size], None, log, record=record)
    return f"{known}, about {span(left * (time.monotonic() - started) / TIMED)}"


def span(seconds: float) -> str:
    """ "40 seconds", "3 minutes", "2.5 hours"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} second{'' if round(seconds) <= 1 else 's'}"
    return f"{round(seconds / 60)} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
