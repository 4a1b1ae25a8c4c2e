"""What an evaluation can compare with on a benchmark."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from cuma.data.corpus import Corpus
from cuma.data.surveys.survey import Survey
from cuma.errors import BenchmarkError
from cuma.evaluation.choices import choices_of

Kind = Literal["answers", "shares", "choices"]
WORDS: dict[Kind | None, str] = {
    "answers": "survey answers of single people",
    "shares": "published shares of whole groups",
    "choices": "choices among replies",
    None: "nothing to compare answers with",
}


def kind_of(survey: Survey, corpus: Corpus | None) -> Kind | None:
    """What a benchmark's test part consists of; None for preference data without choices."""
    if survey.questions:
        return "answers"
    if corpus is not None and corpus.shares() is not None:
        return "shares"
    return "choices" if corpus is not None and choices_of(corpus) else None


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
