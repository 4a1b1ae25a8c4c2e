"""What an evaluation can compare with on a benchmark, and which further measures that allows."""

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
NEEDS: dict[str, tuple[Kind, ...]] = {
    "--partial-profiles": ("answers",),
    "--collapse": ("answers",),
    "--gradients": ("answers",),
    "--topology": ("answers",),
    "--against": ("answers", "shares"),
}
"""A measure's option → the kinds of benchmark that it can be taken on."""


def kind_of(survey: Survey, corpus: Corpus | None) -> Kind | None:
    """What a benchmark's test part consists of; None for preference data without choices."""
    if survey.questions:
        return "answers"
    if corpus is not None and corpus.shares() is not None:
        return "shares"
    return "choices" if corpus is not None and choices_of(corpus) else None


def require_kind(measures: Collection[str], benchmark: str, survey: Survey, corpus: Corpus | None) -> None:
    """Raises BenchmarkError for the first of the measures that cannot be taken on a benchmark of its kind."""
    kind = kind_of(survey, corpus)
    for measure in measures:
        if kind not in NEEDS[measure]:
            needed = " or ".join(WORDS[each] for each in NEEDS[measure])
            raise BenchmarkError(f"{measure} needs {needed}, and {benchmark} has {WORDS[kind]}.")
