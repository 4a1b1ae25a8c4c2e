"""An answer to a survey question as conversations that end in a letter."""

from __future__ import annotations

from typing import Any

import numpy as np

from cuma.data.builders.base import message
from cuma.data.surveys.prompts import LETTERS, question_orders, survey_messages
from cuma.data.surveys.survey import Question


def in_letters(
    question: Question, row: dict[str, Any], rng: np.random.Generator
) -> tuple[dict[str, Any], dict[str, Any]]:
    """An `sft` row and a `dpo` row: the answer, and the answer beside another letter, which is drawn uniformly.

    The options stand in an order by lot.

    Args:
        question: what was asked.
        row: has `answer`, an index into the question's options, and the columns of `cuma.data.builders.base.WHO`.
        rng: draws the order and the other letter.
    """
    orders = question_orders(question)
    order = orders[rng.integers(len(orders))]
    own = order.index(row["answer"])
    other = (own + 1 + int(rng.integers(len(order) - 1))) % len(order)
    common = {key: row[key] for key in ("profile", "profile_text", "person_id", "group")}
    prompt = survey_messages(question, order)
    said, unsaid = ([message("assistant", LETTERS[letter])] for letter in (own, other))
    return {"prompt": prompt, "completion": said, **common}, {
        "prompt": prompt,
        "chosen": said,
        "rejected": unsaid,
        **common,
    }
