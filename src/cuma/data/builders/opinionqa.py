"""OpinionQA: answers of the people of Pew's American Trends Panel, as shares of groups.

The folder human_resp has a folder for each wave: info.csv (questions, their options and where they stand on a scale),
metadata.csv (the attributes of people and their values), and responses.csv (one row a respondent: answers and
attributes in words, and a weight). Where responses.csv is missing, the repository's counts by attribute are read in its
place (AGE_data.json, …), which are not weighted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from cuma.data.builders.base import Built, Ledger, Options
from cuma.data.builders.cell_text import cell_number, cell_text
from cuma.data.builders.delimited import csv_rows
from cuma.data.builders.pew_groups import FIELDS_OF, IN_WORDS, group_label, group_profile
from cuma.data.builders.published_shares import PublishedItem, built_of, on_a_scale, share_rows
from cuma.data.builders.reading import existing, no_rows
from cuma.data.builders.scales import is_no_answer
from cuma.data.surveys.survey import Question
from cuma.errors import BenchmarkError, suggestion
from cuma.people.absence import is_absent
from cuma.people.literals import NotPlain, plain_literal, read_json
from cuma.people.profiles import Profile

LICENCE = "Pew Research Center's terms of use for its American Trends Panel: read them where you obtained the files."
CITATION = (
    "Santurkar et al. (2023), Whose Opinions Do Language Models Reflect?, ICML 2023, arXiv 2303.17548; questions and "
    "answers: Pew Research Center, American Trends Panel. Pew bears no responsibility for what is made of its data."
)
INFO, PEOPLE = "info.csv", "responses.csv"
_HINT = "The folder human_resp of OpinionQA was expected, with a folder American_Trends_Panel_W… for each wave."
_COUNTS = "_data.json"
_ASIDE = ("MC_options", "question_text", "marginals")


@dataclass(frozen=True)
class _WaveItem:
    """A question of a wave."""

    question: Question
    place: Mapping[str, int]
    """Answer in words, or its code in words → the option."""


@dataclass
class _Cells:
    """What the waves together say: question → group → (weight of each option, Kish's number of people)."""

    counts: dict[str, dict[str, tuple[np.ndarray, float]]]
    profiles: dict[str, Profile]

    def add(self, question: str, values: Mapping[str, str], counts: np.ndarray, n: float, ledger: Ledger) -> None:
        """A group's answers to a question; nothing where nobody answered, or the group is not one."""
        if not counts.sum():
            return
        group = group_label(values)
        if group not in self.profiles:
            profile = group_profile(values, ledger)
            if profile is None:
                return
            self.profiles[group] = profile
        self.counts.setdefault(question, {})[group] = counts, n


def build(source: Path, options: Options) -> Built:
    """The task "distribution": shares of every group by one attribute, or by several together (`Options.group_by`).

    Shares are weighted; n is Kish's effective number of people. Raises `BenchmarkError` for another folder, or one
    that has nothing usable in it.
    """
    folder, ledger = existing(source), Ledger()
    waves = sorted(path.parent for path in folder.rglob(INFO)) if folder.is_dir() else []
    if not waves:
        raise BenchmarkError(f"{source} has no {INFO} in it. {_HINT}")
    by = [_attribute(name) for name in options.group_by]
    cells, asked = _Cells({}, {}), dict[str, tuple[_WaveItem, str]]()
    for wave in tqdm(waves, desc="Reading waves", leave=False):
        its = dict(_questions(wave / INFO, ledger))
        for name in [name for name in its if name in asked]:
            ledger.drop("question of an earlier wave again")
            del its[name]
        asked |= {name: (one, wave.name) for name, one in its.items()}
        read = _from_people if (wave / PEOPLE).is_file() else _from_counts
        read(wave, its, by, cells, ledger)
    items = [
        PublishedItem(
            asked[name][0].question,
            asked[name][1],
            {group: tuple((counts / counts.sum()).tolist()) for group, (counts, _) in its.items()},
            {group: max(1, int(n)) for group, (_, n) in its.items()},
        )
        for name, its in cells.counts.items()
    ]
    if not items:
        raise no_rows(folder, ledger, _HINT)
    ledger.note("question of which nobody's answer is known", len(asked) - len(items))
    rows, facts = share_rows(items, cells.profiles, options, ledger)
    sources = tuple(wave / name for wave in waves for name in (INFO, PEOPLE) if (wave / name).is_file())
    facts |= {"waves": len(waves), "group_by": by or "each attribute by itself"}
    return built_of("opinionqa", rows, ledger, sources=sources, licence=LICENCE, citation=CITATION, facts=facts)


def _attribute(name: str) -> str:
    """Pew's name of an attribute, from it or from our field's. Raises `BenchmarkError`."""
    known = {**{field: pew for pew, field in FIELDS_OF.items()}, **{pew: pew for pew in (*FIELDS_OF, *IN_WORDS)}}
    if name.upper() not in known and name not in known:
        raise BenchmarkError(f"--group-by: unknown attribute {name!r}. {suggestion(name, known)}")
    return known.get(name) or known[name.upper()]


def _questions(file: Path, ledger: Ledger) -> Iterator[tuple[str, _WaveItem]]:
    for row in csv_rows(file, ("key", "question", "references"), Ledger(), _HINT):
        name, text = row["key"].strip(), " ".join(row["question"].split())
        options, codes, places = (_literal(row.get(column, "")) for column in COLUMNS_OF_LISTS)
        named = [" ".join(cell_text(option).split()) for option in options] if isinstance(options, list) else []
        substantive = [option for option in named if not is_no_answer(option)]
        if not name or not text or len(substantive) < 2 or len(set(named)) < len(named):
            ledger.drop("question without a key, a text or two distinct options that are an answer")
            continue
        order, ordinal = on_a_scale(substantive, places)
        place = {option: order.index(option) for option in substantive}
        for code, option in codes.items() if isinstance(codes, dict) else ():
            option = " ".join(cell_text(option).split())
            if option in place:
                place.setdefault(cell_text(code), place[option])
        yield name, _WaveItem(Question(name, text, order, ordinal), place)


COLUMNS_OF_LISTS = ("references", "option_mapping", "option_ordinal")


def _literal(text: str) -> Any:
    try:
        return plain_literal(text)
    except NotPlain:
        return None


def _attributes(wave: Path, there: Sequence[str]) -> dict[str, set[str] | None]:
    """Attribute → its values, where metadata.csv lists them; without that file the attributes that are known."""
    file = wave / "metadata.csv"
    if not file.is_file():
        return {name: None for name in (*FIELDS_OF, *IN_WORDS) if name in there}
    listed = {}
    for row in csv_rows(file, ("key", "options"), Ledger(), _HINT):
        options = _literal(row["options"])
        if row["key"] in there:
            listed[row["key"]] = {cell_text(option) for option in options} if isinstance(options, list) else None
    return listed


def _from_people(wave: Path, asked: Mapping[str, _WaveItem], by: list[str], cells: _Cells, ledger: Ledger) -> None:
    """Add the weighted shares of one wave's respondents."""
    try:
        people = pd.read_csv(wave / PEOPLE, dtype=str, keep_default_na=False, encoding_errors="replace")
    except (ValueError, OSError) as error:
        raise BenchmarkError(f"{wave / PEOPLE} cannot be read as CSV: {error}. Obtain it again.") from error
    ledger.read(len(people))
    weight = _weights(people, wave, ledger)
    people, weight = people[weight.notna()], weight.dropna().to_numpy(dtype=np.float64)
    ledger.keep(len(people))
    attributes = _attributes(wave, list(people.columns))
    if missing := [name for name in by if name not in attributes]:
        raise BenchmarkError(f"{wave.name} has no {missing[0]}. {suggestion(missing[0], attributes)}")
    told = {name: _values(people[name], known, name, ledger) for name, known in attributes.items()}
    ledger.drop("question without a column of answers", sum(name not in people for name in asked))
    coded = {name: _codes(people[name], one, ledger) for name, one in asked.items() if name in people}
    for keys in [by] if by else [[name] for name in attributes]:
        groups = pd.DataFrame({key: told[key] for key in keys}).dropna()
        places = pd.DataFrame({"at": np.arange(len(people))}, index=people.index)
        for values, members in groups.groupby(keys, sort=True):
            at = places.loc[members.index, "at"].to_numpy()
            group = dict(zip(keys, map(str, values), strict=True))
            for name, codes in coded.items():
                theirs, size = codes[at], len(asked[name].question.options)
                answered = theirs >= 0
                w = weight[at][answered]
                counts = np.bincount(theirs[answered], w, minlength=size)
                cells.add(name, group, counts, w.sum() ** 2 / max((w**2).sum(), 1e-300), ledger)


def _weights(people: pd.DataFrame, wave: Path, ledger: Ledger) -> pd.Series:
    """Of every respondent; NaN, and counted, where there is none."""
    number = wave.name.rpartition("_")[2]
    column = next((name for name in (f"WEIGHT_{number}", "WEIGHT") if name in people), None)
    if column is None:
        ledger.note(f"wave without the column WEIGHT_{number}: its people count alike")
        return pd.Series(1.0, index=people.index)
    weight = people[column].map(cell_number).astype(float)
    weight = weight.where(weight > 0)
    ledger.drop("respondent without a weight above 0", int(weight.isna().sum()))
    return weight


def _values(column: pd.Series, known: set[str] | None, name: str, ledger: Ledger) -> pd.Series:
    """An attribute's values; missing where one says nothing."""
    text = column.str.strip()
    says = text.map(lambda value: not is_absent(value) and (known is None or value in known))
    ledger.note(f"respondent of whom {name} is not known", int((~says).sum()))
    return text.where(says)


def _codes(column: pd.Series, asked: _WaveItem, ledger: Ledger) -> np.ndarray:
    """The option of every respondent; -1 where they were not asked or gave no answer."""
    distinct = {text: asked.place.get(text, asked.place.get(cell_text(text))) for text in column.unique()}
    for text, times in column.value_counts().items():
        if distinct[text] is None and str(text).strip():
            what = f"no answer, left out: {text}" if is_no_answer(str(text)) or is_absent(str(text)) else "no option"
            ledger.note(f"answer that is {what}", int(times))
    return column.map(lambda text: -1 if distinct[text] is None else distinct[text]).to_numpy(dtype=np.int64)


def _from_counts(wave: Path, asked: Mapping[str, _WaveItem], by: list[str], cells: _Cells, ledger: Ledger) -> None:
    """Add the counts by attribute that the repository has; pairs of attributes only where they are asked for."""
    ledger.note(f"wave without {PEOPLE}: its counts by attribute are read, which are not weighted")
    wanted = "_".join(by)
    for file in sorted(wave.glob(f"*{_COUNTS}")):
        keys = file.name.removesuffix(_COUNTS).split("_")
        if keys == ["NONE"] or (by and sorted(keys) != sorted(by)) or (not by and len(keys) > 1):
            continue
        try:
            tables = read_json(file.read_text(encoding="utf-8"))
        except (NotPlain, OSError, UnicodeDecodeError) as error:
            raise BenchmarkError(f"{file} is no JSON. Obtain it again.") from error
        for name, table in tables.items():
            if name not in asked:
                ledger.drop("question of the counts that info.csv does not have")
                continue
            ledger.read()
            ledger.keep()
            for values, counts in _leaves(table, len(keys)):
                found = np.zeros(len(asked[name].question.options))
                for option, times in counts.items():
                    at = asked[name].place.get(" ".join(str(option).split()))
                    if at is None:
                        ledger.note(f"answer that is no answer, left out: {option}", int(times))
                    else:
                        found[at] += times
                cells.add(name, dict(zip(keys, values, strict=True)), found, found.sum(), ledger)
    if wanted and not any(cells.counts.get(name) for name in asked):
        raise BenchmarkError(f"{wave.name} has no counts by {wanted} ({wanted}{_COUNTS}) and no {PEOPLE}.")


def _leaves(table: Mapping[str, Any], depth: int) -> Iterator[tuple[tuple[str, ...], Mapping[str, float]]]:
    """Values of the attributes → counts of the options."""
    for value, inner in table.items():
        if value in _ASIDE or not isinstance(inner, dict) or is_absent(value):
            continue
        if depth == 1:
            yield (value,), inner
        else:
            yield from (((value, *others), counts) for others, counts in _leaves(inner, depth - 1))
