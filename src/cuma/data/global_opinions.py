"""GlobalOpinionQA: how whole countries answered questions of Pew's Global Attitudes Survey and the World Values Survey.

There are no people in it, so that splits are of questions: the same question is never in two of train, validation and
test. "unseen" holds the countries that were held out, with all of their questions; its column `question_split` says
where a question is for everybody else.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Value
from tqdm import tqdm

from cuma.data.base import TASKS, WHO, Built, Ledger, Options, who
from cuma.data.reading import csv_rows, existing
from cuma.data.splits import UNSEEN, assign, check_holdout, draw, held_out
from cuma.errors import BenchmarkError
from cuma.profiles import Profile

LICENCE = "CC-BY-NC-SA-4.0: not for commercial use; what is built on it is shared under the same licence."
CITATION = (
    "Durmus et al. (2024), Towards Measuring the Representation of Subjective Global Opinions in Language Models, "
    "COLM 2024, arXiv 2306.16388; it asks to cite Pew Research Center and the World Values Survey as well."
)
COLUMNS = ("question", "selections", "options", "source")
TOLERANCE = 0.02
"""A distribution whose sum is further from 1 is wrong, not rounded."""
MAX_LITERAL = 100_000
"""Characters of the longest cell that is parsed; the data set's longest has some thousands."""
MAX_DEPTH = 4
"""Brackets within brackets; the data set has two."""
MAX_NAME = 80
"""Characters of the longest country's name."""

FEATURES = Features(
    {
        **{name: value for name, value in TASKS["distribution"].items() if name not in WHO},
        "question_split": Value("string"),
        **WHO,
    }
)

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
_NO_ANSWER = re.compile(
    r"dk|d/k|don't know|do not know|refused|refusal|refuse to answer|no answer|no response|no opinion given|unknown|"
    r"not asked( in survey)?|not applicable|missing|declined? to answer|prefer not to (say|answer)|not available"
)
_SCALES = (
    ("very good", "good", "somewhat good", "neither good nor bad", "somewhat bad", "bad", "very bad"),
    ("very favorable", "mostly favorable", "somewhat favorable", "somewhat unfavorable", "mostly unfavorable",
     "very unfavorable"),
    ("strongly agree", "completely agree", "agree strongly", "agree", "mostly agree", "somewhat agree",
     "neither agree nor disagree", "somewhat disagree", "mostly disagree", "disagree", "disagree strongly",
     "completely disagree", "strongly disagree"),
    ("very important", "rather important", "somewhat important", "fairly important", "not very important",
     "not too important", "not at all important", "not important at all"),
    ("a great deal", "quite a lot", "a fair amount", "some", "not very much", "not too much", "none at all",
     "not at all"),
    ("a lot", "some", "not too much", "not much", "nothing at all", "no confidence at all", "not at all"),
    ("a lot of confidence", "some confidence", "not too much confidence", "no confidence at all"),
    ("very satisfied", "somewhat satisfied", "somewhat dissatisfied", "very dissatisfied"),
    ("very big problem", "moderately big problem", "small problem", "not a problem at all"),
    ("a very big problem", "a moderately big problem", "a small problem", "not a problem at all"),
    ("very serious", "somewhat serious", "not too serious", "not a problem", "not at all serious"),
    ("major threat", "minor threat", "not a threat"),
    ("very concerned", "somewhat concerned", "not too concerned", "not at all concerned"),
    ("very worried", "somewhat worried", "not too worried", "not at all worried"),
    ("very much", "a great deal", "a good deal", "somewhat", "not much", "a little", "not at all"),
    ("very happy", "rather happy", "quite happy", "not very happy", "not at all happy"),
    ("very likely", "somewhat likely", "somewhat unlikely", "not too likely", "very unlikely", "not at all likely"),
    ("very proud", "quite proud", "not very proud", "not at all proud"),
    ("very interested", "somewhat interested", "not very interested", "not at all interested"),
    ("always", "almost always", "very often", "often", "frequently", "sometimes", "occasionally", "rarely",
     "hardly ever", "almost never", "never"),
    ("increase", "increased", "stay the same", "stayed the same", "kept the same", "about the same", "decrease",
     "decreased"),
    ("better", "about the same", "the same", "worse"),
    ("improve a lot", "improve a little", "remain the same", "worsen a little", "worsen a lot"),
    ("gotten better", "stayed about the same", "gotten worse"),
    ("completely", "mostly", "somewhat", "a little", "not at all"),
    ("strongly approve", "approve", "somewhat approve", "somewhat disapprove", "disapprove", "strongly disapprove"),
    ("strongly favor", "favor", "somewhat favor", "somewhat oppose", "oppose", "strongly oppose"),
    ("strongly support", "support", "somewhat support", "somewhat oppose", "oppose", "strongly oppose"),
)  # fmt: skip
"""Known ordered scales; a question may have any part of one, in either direction. Where words of one line are much
alike ("agree", "mostly agree"), a question that has them in another order is taken for unordered."""


class _NotPlain(Exception):
    """A cell holds something else than lists, dicts, texts and numbers."""


@dataclass(frozen=True)
class _Question:
    id: str
    text: str
    options: tuple[str, ...]
    ordinal: bool
    source: str
    shares: dict[str, tuple[float, ...]]
    """Country → shares of `options`."""

    @property
    def key(self) -> str:
        """The same for the same wording, however it is spaced or capitalised."""
        return " ".join(self.text.casefold().split())


def build(source: Path, options: Options) -> Built:
    """The task "distribution": one row for every question and country.

    source: the data set's CSV. `Options.sample` draws questions, from both surveys alike. Raises `BenchmarkError` for a
    file that is no such CSV, or has nothing usable in it.
    """
    source = _file(source)
    ledger = Ledger()
    questions = list(_questions(source, ledger))
    if not questions:
        raise BenchmarkError(f"{source} has no question that can be used. Is it GlobalOpinionQA's CSV?")
    profiles = {country: Profile(country=country) for question in questions for country in question.shares}
    check_holdout(options.holdout, profiles.values())
    keys = {question.key: question.source for question in questions}
    kept = draw(keys, options.sample, options.seed)
    split_of = assign({key: origin for key, origin in keys.items() if key in kept}, options.seed)
    rows: dict[str, list[dict[str, Any]]] = {}
    for question in questions:
        if question.key not in kept:
            ledger.drop("not in the sample")
            continue
        ledger.keep()
        for country, shares in question.shares.items():
            split = split_of[question.key]
            profile = profiles[country]
            row = {
                "question_id": question.id,
                "question": question.text,
                "options": list(question.options),
                "distribution": list(shares),
                "ordinal": question.ordinal,
                "source": question.source,
                "question_split": split,
                **who(profile, None, country),
            }
            rows.setdefault(UNSEEN if held_out(profile, options.holdout) else split, []).append(row)
    splits = {split: Dataset.from_list(entries, features=FEATURES) for split, entries in rows.items()}
    facts = {
        "questions": {split: len({row["question_id"] for row in entries}) for split, entries in sorted(rows.items())},
        "split_by": "question; unseen: country",
    }
    return Built("global_opinions", {"distribution": splits}, ledger, (source,), LICENCE, CITATION, facts)


def _file(source: Path) -> Path:
    source = existing(source)
    if not source.is_dir():
        return source
    found = sorted(source.glob("*.csv"))
    if len(found) != 1:
        raise BenchmarkError(f"{source} has {len(found)} CSV files. Give --source the data set's one file.")
    return found[0]


def _questions(source: Path, ledger: Ledger) -> Iterator[_Question]:
    seen: set[str] = set()
    rows = csv_rows(source, COLUMNS, ledger, "Is this GlobalOpinionQA's CSV?")
    for row in tqdm(rows, desc="reading questions", unit=" rows", leave=False):
        question = _question(row, ledger)
        if question is None:
            continue
        if question.id in seen:
            ledger.drop("the same question and options again")
            continue
        seen.add(question.id)
        yield question


def _question(row: dict[str, str], ledger: Ledger) -> _Question | None:
    """The row as a question with its countries; None, and a reason in the ledger, where it cannot be used."""
    text = " ".join(row["question"].split())
    if text.casefold() in ("", "nan", "none", "null"):
        ledger.drop("no question")
        return None
    try:
        listed = _plain(row["options"])
    except _NotPlain:
        ledger.drop("options that are no list of texts")
        return None
    if not isinstance(listed, list) or not all(isinstance(option, str | int | float) for option in listed):
        ledger.drop("options that are no list of texts")
        return None
    options = [" ".join(str(option).split()) for option in listed]
    if "" in options or len(set(options)) < len(options):
        ledger.drop("options that are empty or occur twice")
        return None
    start, end = row["selections"].find("{"), row["selections"].rfind("}")
    try:
        selections = _plain(row["selections"][start : end + 1]) if start >= 0 else None
    except _NotPlain:
        selections = None
    if not isinstance(selections, dict):
        ledger.drop("selections that are no table of countries")
        return None
    substantive = [number for number, option in enumerate(options) if not is_no_answer(option)]
    if len(substantive) < 2:
        ledger.drop("fewer than two options beside don't know and refused")
        return None
    shares = _shares(selections, len(options), substantive, ledger)
    if not shares:
        ledger.drop("no country with a usable distribution")
        return None
    ledger.note("option: don't know or refused, left out", len(options) - len(substantive))
    names = tuple(options[number] for number in substantive)
    origin = " ".join(row["source"].split())
    digest = hashlib.sha256("\0".join([origin, text, *options]).encode("utf-8", "replace")).hexdigest()[:12]
    return _Question(f"{origin or 'unknown'}-{digest}", text, names, is_ordinal(names), origin, shares)


def _shares(
    selections: dict[Any, Any], options: int, substantive: Sequence[int], ledger: Ledger
) -> dict[str, tuple[float, ...]]:
    """Country → shares of the substantive options, from the sample that stands best for the country."""
    found: dict[str, tuple[int, tuple[float, ...]]] = {}
    for key, values in selections.items():
        country, rank = _country(key)
        if country is None:
            ledger.drop("country: no name")
            continue
        shares = _distribution(values, options, substantive, ledger)
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


def _distribution(values: Any, options: int, substantive: Sequence[int], ledger: Ledger) -> tuple[float, ...] | None:
    if not isinstance(values, list) or not all(isinstance(value, int | float) for value in values):
        ledger.drop("country: distribution that is no list of numbers")
        return None
    if len(values) != options:
        ledger.drop("country: distribution and options differ in length")
        return None
    if not all(math.isfinite(value) and value >= 0 for value in values):
        ledger.drop("country: share that is negative or not a number")
        return None
    total = math.fsum(values)
    if abs(total - 1) > TOLERANCE + 1e-9:
        ledger.drop("country: distribution that does not sum to 1")
        return None
    rest = [values[number] for number in substantive]
    mass = math.fsum(rest)
    if mass <= 1e-9:
        ledger.drop("country: nobody gave an answer")
        return None
    if abs(total - 1) > 1e-6:
        ledger.note("country: distribution that sums to 1 only within 2 %, renormalised")
    if total - mass > 1e-9:
        ledger.note("country: share of don't know or refused left out, rest renormalised")
    return tuple(value / mass for value in rest)


def is_no_answer(option: str) -> bool:
    """Whether an option says only that there is no answer: "DK/Refused", "Don't know (VOL)", "Missing; Unknown"."""
    plain = re.sub(r"\([^()]*\)", " ", re.sub(r"[´`’‘]", "'", option.casefold()))
    parts = [part.strip(" .-–") for part in re.split(r"[/;,]|\bor\b", plain)]
    parts = [part for part in parts if part]
    return bool(parts) and all(_NO_ANSWER.fullmatch(part) for part in parts)


def is_ordinal(options: Sequence[str]) -> bool:
    """Whether three or more options are known to be steps on a scale, else False.

    They are if they stand in the order of a known scale, or in its reverse, without any other option; or if they begin
    with whole numbers that go up or down by one, and some are nothing else ("1 Not at all", "2", …).
    """
    if len(options) < 3:
        return False
    numbers = [re.match(r"-?\d{1,3}(?![\d.,%:–-])", option) for option in options]
    if all(numbers):
        values = [int(match[0]) for match in numbers if match]
        steps = {after - before for before, after in itertools.pairwise(values)}
        return steps in ({1}, {-1}) and any(match[0] == match.string for match in numbers if match)
    plain = [" ".join(re.sub(r"\([^()]*\)", " ", option.casefold()).split()).strip(" .") for option in options]
    for scale in _SCALES:
        if set(plain) <= set(scale):
            places = [scale.index(option) for option in plain]
            if places == sorted(places) or places == sorted(places, reverse=True):
                return True
    return False


def _plain(text: str) -> Any:
    """A list, dict, text or number from a Python literal; `nan` and `inf` are known. Never evaluates anything.

    Raises `_NotPlain` for whatever else, for text too long or too deeply nested.
    """
    text = text.strip()
    if len(text) > MAX_LITERAL:
        raise _NotPlain
    depth = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        if depth > MAX_DEPTH:
            raise _NotPlain
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's opinion of odd escapes in somebody's text
            return _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise _NotPlain from error


def _value(node: ast.expr) -> Any:
    match node:
        case ast.List(elts=items):
            return [_value(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            if not all(isinstance(key, ast.Constant) for key in keys):
                raise _NotPlain
            return {_value(key): _value(value) for key, value in zip(keys, values, strict=True) if key is not None}
        case ast.Constant(value=str() as text):
            return text
        case ast.Constant(value=bool()):
            raise _NotPlain
        case ast.Constant(value=int() | float() as number):
            return float(number) if isinstance(number, float) or abs(number) > 2**53 else number
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -float(number)
        case ast.Name(id="nan" | "inf" as name):
            return float(name)
    raise _NotPlain
