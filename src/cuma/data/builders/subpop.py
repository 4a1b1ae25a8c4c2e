"""SubPOP: how American groups answered questions of Pew's American Trends Panel and of the General Social Survey.

A row is a question and a group: `qkey`, `attribute`, `group`, `responses` (shares of the options without the refused
one), `refusal_rate`, `ordinal`, `question`, `options`. Lists are lists, or Python's print of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cuma.data.builders.any_file import any_rows
from cuma.data.builders.base import Built, Ledger, Options
from cuma.data.builders.cell_text import cell_text
from cuma.data.builders.pew_groups import group_label, group_profile
from cuma.data.builders.published_shares import PublishedItem, built_of, on_a_scale, share_rows, without_no_answers
from cuma.data.builders.reading import existing, no_rows
from cuma.data.builders.scales import is_no_answer
from cuma.data.surveys.survey import Question
from cuma.errors import BenchmarkError
from cuma.people.literals import NotPlain, plain_literal
from cuma.people.profiles import Profile

LICENCE = "SubPOP's terms of use, and those of Pew Research Center and NORC: read them where you obtained the file."
CITATION = (
    "Suh et al. (2025), Language Model Fine-Tuning on Scaled Survey Data for Predicting Distributions of Public "
    "Opinions, arXiv 2502.16761; questions and answers: Pew Research Center, American Trends Panel, and NORC, General "
    "Social Survey."
)
COLUMNS = ("qkey", "attribute", "group", "responses", "question", "options")
_HINT = "SubPOP's .jsonl or .csv was expected."


def build(source: Path, options: Options) -> Built:
    """The task "distribution". `Options.sample` is not for shares. Raises `BenchmarkError` for another file, or none
    that can be used."""
    file, ledger = _file(existing(source)), Ledger()
    profiles: dict[str, Profile] = {}
    asked: dict[str, Question] = {}
    shares: dict[str, dict[str, tuple[float, ...]]] = {}
    for row in tqdm(any_rows(file, ledger, lambda name: name in COLUMNS), desc="Reading shares", leave=False):
        if missing := [name for name in COLUMNS if name not in row]:
            raise BenchmarkError(f"{file} lacks {', '.join(missing)}: it has {', '.join(sorted(row))}. {_HINT}")
        read = _row(row, ledger)
        if read is None:
            continue
        question, values, its = read
        group = group_label(values)
        profile = group_profile(values, ledger)
        if profile is None:
            ledger.drop("group whose value is a word for missing")
        elif asked.setdefault(question.id, question) != question:
            ledger.drop("question in other words or with other options than in its first row")
        elif group in shares.setdefault(question.id, {}):
            ledger.drop("second distribution of a group for a question: the first counts")
        else:
            profiles[group] = profile
            shares[question.id][group] = its
            ledger.keep()
    items = [PublishedItem(asked[name], name.rpartition("_")[2], found, {}) for name, found in shares.items() if found]
    if not items:
        raise no_rows(file, ledger, _HINT)
    rows, facts = share_rows(items, profiles, options, ledger)
    return built_of("subpop", rows, ledger, sources=(file,), licence=LICENCE, citation=CITATION, facts=facts)


def _file(source: Path) -> Path:
    if not source.is_dir():
        return source
    found = sorted(path for path in source.iterdir() if path.suffix.lower() in (".jsonl", ".csv", ".parquet"))
    if len(found) != 1:
        raise BenchmarkError(f"{source} has {len(found)} files .jsonl, .csv or .parquet; name one of them. {_HINT}")
    return found[0]


def _row(row: Mapping[str, Any], ledger: Ledger) -> tuple[Question, dict[str, str], tuple[float, ...]] | None:
    """Question, attribute → value, and shares; None, and counted, where one of them cannot be read."""
    name, text = cell_text(row["qkey"]), " ".join(cell_text(row["question"]).split())
    options, values = _list(row["options"]), _list(row["responses"])
    attributes, groups = (_list(row[column]) or [cell_text(row[column])] for column in ("attribute", "group"))
    if not name or not text or not options or len({*map(str, options)}) < len(options):
        ledger.drop("row without qkey, question or distinct options")
        return None
    if len(attributes) != len(groups) or not all(map(cell_text, [*attributes, *groups])):
        ledger.drop("attribute and group that do not belong together")
        return None
    named = [" ".join(cell_text(option).split()) for option in options]
    if not values or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        ledger.drop("responses that are no list of numbers")
        return None
    if len(values) == len(named) - 1 and is_no_answer(named[-1]):
        values = [*values, 0.0]  # SubPOP has taken the refused option's share out, and kept its name
    if len(values) != len(named):
        ledger.drop("responses and options differ in length")
        return None
    shares = without_no_answers(values, named, ledger, "group")
    substantive = [option for option in named if not is_no_answer(option)]
    if shares is None or len(substantive) < 2:
        ledger.drop("fewer than two options beside those that are no answer", shares is not None)
        return None
    order, ordinal = on_a_scale(substantive, _list(row.get("ordinal")))
    of = dict(zip(substantive, shares, strict=True))
    told = dict(zip(map(cell_text, attributes), map(cell_text, groups), strict=True))
    return Question(name, text, order, ordinal), told, tuple(of[option] for option in order)


def _list(value: Any) -> list[Any] | None:
    """A list, or what prints one; None for anything else."""
    if isinstance(value, str):
        try:
            value = plain_literal(value) if value.strip().startswith("[") else None
        except NotPlain:
            return None
    return value if isinstance(value, list) else None
