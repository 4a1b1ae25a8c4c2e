"""GlobalOpinionQA: how whole countries answered questions of Pew's Global Attitudes Survey and the World Values Survey.

There are no people in it, so that splits are of questions and of countries (`share_splits`). "unseen" holds the
countries that were held out, with all of their questions; the column `question_split` says where a question is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from tqdm import tqdm

from cuma.data.builders.any_file import is_parquet
from cuma.data.builders.base import SPLITS, TASKS, Built, Ledger, Options, Task
from cuma.data.builders.delimited import csv_rows, read_layout
from cuma.data.builders.letter_conversations import in_letters
from cuma.data.builders.person_splits import draw
from cuma.data.builders.published_shares import PublishedItem, share_rows, share_sets, without_no_answers
from cuma.data.builders.reading import existing, no_rows
from cuma.data.builders.scales import is_no_answer, is_ordinal
from cuma.data.surveys.prompts import LETTERS
from cuma.data.surveys.survey import Question
from cuma.errors import BenchmarkError
from cuma.people.literals import NotPlain, plain_literal
from cuma.people.profiles import Profile

LICENCE = "CC-BY-NC-SA-4.0: not for commercial use; what is built on it is shared under the same licence."
CITATION = (
    "Durmus et al. (2024), Towards Measuring the Representation of Subjective Global Opinions in Language Models, "
    "COLM 2024, arXiv 2306.16388; it asks to cite Pew Research Center and the World Values Survey as well."
)
COLUMNS = ("question", "selections", "options", "source")
MAX_NAME = 80
"""Characters of the longest country's name."""

COUNTRIES = {
    "s. korea": "South Korea", "korea, south": "South Korea", "s. africa": "South Africa",
    "n. ireland": "Northern Ireland",
    "britain": "Great Britain", "u.k.": "United Kingdom", "uk": "United Kingdom", "u.s.": "United States",
    "us": "United States", "usa": "United States", "u.a.e.": "United Arab Emirates", "czech rep.": "Czech Republic",
    "slovak rep.": "Slovakia", "dominican rep.": "Dominican Republic", "palest. ter.": "Palestinian territories",
    "palest. terr.": "Palestinian territories", "taiwan roc": "Taiwan", "hong kong sar": "Hong Kong",
    "macau sar": "Macau", "viet nam": "Vietnam", "bosnia herzegovina": "Bosnia and Herzegovina",
    "dem. rep. congo": "Democratic Republic of the Congo", "n. zealand": "New Zealand",
}  # fmt: skip
"""The data set's short names, in lower case → names that read well in a sentence."""

_SAMPLE = re.compile(r"\s*\(([^()]*\bsample)\)\s*$", re.IGNORECASE)


def build(source: Path, options: Options) -> Built:
    """The task "distribution": one row for every question and country. The task "sft": the same rows as conversations.

    A conversation's answer is one letter, drawn by the country's shares, as if one of its people had been met: nobody
    did answer that, but a model trained on many of them learns the shares.

    source: the data set's CSV. `Options.sample` draws questions, from both surveys alike. Raises `BenchmarkError` for a
    file that is no such CSV, or has nothing usable in it.
    """
    source = _file(source)
    ledger = Ledger()
    questions = list(_questions(source, ledger))
    if not questions:
        raise no_rows(source, ledger, "Is it GlobalOpinionQA's CSV?")
    kept = draw({_key(item): item.source for item in questions}, options.sample, options.seed)
    drawn = [item for item in questions if _key(item) in kept]
    ledger.keep(len(drawn))
    ledger.drop("not in the sample", len(questions) - len(drawn))
    profiles = {country: Profile(country=country) for item in drawn for country in item.shares}
    rows, facts = share_rows(drawn, profiles, options, ledger)
    tasks: dict[Task, dict[str, Dataset]] = {
        "distribution": share_sets(rows),
        "sft": {split: _conversations(split, entries, options, ledger) for split, entries in rows.items()},
    }
    return Built("global_opinions", tasks, ledger, (source,), LICENCE, CITATION, facts)


def _key(item: PublishedItem) -> str:
    """The same for the same wording, however it is spaced or capitalised."""
    return " ".join(item.question.text.casefold().split())


def check(source: Path) -> tuple[Ledger, int, int] | None:
    """What became of a file's rows, and how many questions and shares of countries can be used; None: another file."""
    if source.is_dir() or is_parquet(source):
        return None
    try:
        read_layout(source, COLUMNS)
    except BenchmarkError:
        return None
    ledger = Ledger()
    questions = list(_questions(source, ledger))
    ledger.keep(len(questions))
    return ledger, len(questions), sum(len(question.shares) for question in questions)


def _conversations(split: str, rows: list[dict[str, Any]], options: Options, ledger: Ledger) -> Dataset:
    """At most `options.rows` of a split's rows: lettered options in an order by lot, and a letter by the shares."""
    rng = np.random.default_rng([options.seed, SPLITS.index(split)])
    lettered = [row for row in rows if len(row["options"]) <= len(LETTERS)]
    ledger.note("distribution with more options than letters, not made a conversation", len(rows) - len(lettered))
    conversations = []
    for place in np.sort(rng.permutation(len(lettered))[: options.rows]):
        row = lettered[place]
        question = Question(row["question_id"], row["question"], tuple(row["options"]), row["ordinal"])
        answer = int(rng.choice(len(row["options"]), p=row["distribution"]))
        conversations.append(in_letters(question, {**row, "answer": answer}, rng)[0])
    return Dataset.from_list(conversations, features=TASKS["sft"])


def _file(source: Path) -> Path:
    source = existing(source)
    if not source.is_dir():
        return source
    found = sorted(source.glob("*.csv"))
    if len(found) != 1:
        raise BenchmarkError(f"{source} has {len(found)} CSV files. Give --source the data set's one file.")
    return found[0]


def _questions(source: Path, ledger: Ledger) -> Iterator[PublishedItem]:
    seen: set[str] = set()
    rows = csv_rows(source, COLUMNS, ledger, "Is this GlobalOpinionQA's CSV?")
    for row in tqdm(rows, desc="reading questions", unit=" rows", leave=False):
        question = _question(row, ledger)
        if question is None:
            continue
        if question.question.id in seen:
            ledger.drop("the same question and options again")
            continue
        seen.add(question.question.id)
        yield question


def _question(row: dict[str, str], ledger: Ledger) -> PublishedItem | None:
    """The row as a question with its countries; None, and a reason in the ledger, where it cannot be used."""
    text = " ".join(row["question"].split())
    if text.casefold() in ("", "nan", "none", "null"):
        ledger.drop("no question")
        return None
    try:
        listed = plain_literal(row["options"])
    except NotPlain:
        ledger.drop("options that are no list of texts")
        return None
    if not isinstance(listed, list) or not all(isinstance(option, str) or _is_number(option) for option in listed):
        ledger.drop("options that are no list of texts")
        return None
    options = [" ".join(str(option).split()) for option in listed]
    if "" in options or len(set(options)) < len(options):
        ledger.drop("options that are empty or occur twice")
        return None
    start, end = row["selections"].find("{"), row["selections"].rfind("}")
    try:
        selections = plain_literal(row["selections"][start : end + 1]) if start >= 0 else None
    except NotPlain:
        selections = None
    if not isinstance(selections, dict):
        ledger.drop("selections that are no table of countries")
        return None
    substantive = [number for number, option in enumerate(options) if not is_no_answer(option)]
    if len(substantive) < 2:
        ledger.drop("fewer than two options beside those that are no answer")
        return None
    shares = _shares(selections, options, ledger)
    if not shares:
        ledger.drop("no country with a usable distribution")
        return None
    for number in {*range(len(options))} - {*substantive}:
        ledger.note(f"option that is no answer, left out: {options[number]}")
    names = tuple(options[number] for number in substantive)
    origin = " ".join(row["source"].split())
    digest = hashlib.sha256("\0".join([origin, text, *options]).encode("utf-8", "replace")).hexdigest()[:12]
    question = Question(f"{origin or 'unknown'}-{digest}", text, names, is_ordinal(names))
    return PublishedItem(question, origin, shares, {})


def _shares(selections: dict[Any, Any], options: Sequence[str], ledger: Ledger) -> dict[str, tuple[float, ...]]:
    """Country → shares of the substantive options, from the sample that stands best for the country."""
    found: dict[str, tuple[int, tuple[float, ...]]] = {}
    for key, values in selections.items():
        country, rank = _country(key)
        if country is None:
            ledger.drop("country: no name")
            continue
        shares = _distribution(values, options, ledger)
        if shares is None:
            continue
        if rank:
            ledger.note("country: remark about its sample cut")
        if country in found:
            ledger.drop("country: a second sample of it")
        if country not in found or rank < found[country][0]:
            found[country] = rank, shares
    return {country: shares for country, (_, shares) in found.items()}


def _country(key: Any) -> tuple[str | None, int]:
    """A key as a country's full name, and how well its sample stands for it: 0 best."""
    if not isinstance(key, str) or len(key) > MAX_NAME:
        return None, 0
    remark = _SAMPLE.search(key)
    name = " ".join((key[: remark.start()] if remark else key).split())
    rank = 0
    if remark:
        rank = next((place for place, word in enumerate(("current", "non-national", "old"), 1)
                     if word in remark[1].casefold()), 4)  # fmt: skip
    return Profile(country=COUNTRIES.get(name.casefold(), name)).country, rank


def _distribution(values: Any, options: Sequence[str], ledger: Ledger) -> tuple[float, ...] | None:
    if not isinstance(values, list) or not all(map(_is_number, values)):
        ledger.drop("country: distribution that is no list of numbers")
        return None
    if len(values) != len(options):
        ledger.drop("country: distribution and options differ in length")
        return None
    return without_no_answers(values, options, ledger, "country")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
