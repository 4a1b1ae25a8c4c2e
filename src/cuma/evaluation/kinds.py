"""What an evaluation can compare with on a benchmark."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from cuma.data.builders.person_splits import UNSEEN
from cuma.data.corpus import Corpus
from cuma.data.surveys.survey import Survey
from cuma.errors import BenchmarkError
from cuma.evaluation.choices import choices_of

Kind = Literal["answers", "shares", "choices", "conversations"]
WORDS: dict[Kind | None, str] = {
    "answers": "survey answers of single people",
    "shares": "published shares of whole groups",
    "choices": "choices among replies",
    "conversations": "conversations or preference pairs",
    None: "nothing to compare answers with",
}


def kind_of(survey: Survey, corpus: Corpus | None) -> Kind | None:
    """What a benchmark's test part consists of, the first of these that it has; None: nothing of test people."""
    if survey.questions:
        return "answers"
    if corpus is not None and corpus.shares() is not None:
        return "shares"
    if corpus is not None and choices_of(corpus):
        return "choices"
    return "conversations" if has_conversations(corpus) else None


def require_some(kind: Kind | None, benchmark: str) -> None:
    """Raises BenchmarkError for a benchmark with nothing to compare with."""
    if kind is None:
        raise BenchmarkError(
            f"{benchmark} has nothing of test people that an evaluation compares with: no survey answers, shares of "
            "answers, choices among replies, conversations or preference pairs. Build one that has (`cuma data build`)."
        )


def has_conversations(corpus: Corpus | None) -> bool:
    """Whether there are conversations or preference pairs of test people."""
    tasks = {} if corpus is None else corpus.card["tasks"]
    return any(tasks.get(task, {}).get(split) for task in ("sft", "dpo") for split in ("test", UNSEEN))


def require_conversations(option: str, benchmark: str, corpus: Corpus | None) -> None:
    """Raises BenchmarkError without any."""
    if not has_conversations(corpus):
        raise BenchmarkError(f"{option} needs {WORDS['conversations']} of test people, and {benchmark} has none.")


def require_kind(option: str, kinds: Collection[Kind], benchmark: str, survey: Survey, corpus: Corpus | None) -> None:
    """Raises BenchmarkError if a measurement cannot be taken on a benchmark of this kind.

    Args:
        option: the measurement's.
        kinds: those on which it can be taken.
        benchmark: its name.
        survey, corpus: what it consists of.
    """
    kind = kind_of(survey, corpus)
    if kind not in kinds:
        needed = " or ".join(WORDS[each] for each in kinds)
        raise BenchmarkError(f"{option} needs {needed}, and {benchmark} has {WORDS[kind]}.")
