"""Who answered a survey file: profiles, groups, weights, ids and the survey's design, a respondent a row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from cuma.data.builders.answer_table import unmapped
from cuma.data.builders.base import Ledger
from cuma.data.builders.cell_text import cell_number
from cuma.data.builders.country_codes import country_of
from cuma.data.builders.own_people import NOT_KNOWN, check_ids
from cuma.data.builders.questionnaire import NUMBERED, ColumnEntry, Questionnaire, bin_texts
from cuma.data.builders.respondent_columns import EMPTY, ColumnCells, FileColumn
from cuma.errors import BenchmarkError, ProfileError
from cuma.people.absence import is_absent, read_value
from cuma.people.profiles import FIELDS, Profile

_REPLICATES = "replicate_weights"
_YEAR = re.compile(r"(?<!\d)(1[89]|2[01])\d\d(?!\d)")
ABSENT, UNLISTED, UNKNOWN_COUNTRY = "a missing code", "a code that stands nowhere", "a code of no country"
STRUCTURE = "a list or object written as text"


@dataclass(eq=False)
class SurveyPeople:
    """N respondents."""

    ids: np.ndarray
    """[N] text, each once."""
    unit: np.ndarray
    """[N] text: the id in the file. Who has one stays in one split."""
    profiles: list[Profile]
    """The distinct ones."""
    profile_of: np.ndarray
    """[N] places in `profiles`."""
    group: np.ndarray
    """[N] text."""
    weight: np.ndarray | None
    """[N]; None: the survey has no weights."""
    language: np.ndarray | None
    """[N] text, "" where it is not known; None: nobody's language is told."""
    design: dict[str, np.ndarray]
    """stratum, unit: [N] text, "" where there is none; replicate_weights: [N, R]. Only what the file has."""
    stays: np.ndarray
    """[N] whether somebody can be used."""
    absent: dict[str, Counter[str]] = field(default_factory=dict)
    """Profile field → why it is absent → how many."""


def read_respondents(
    questionnaire: Questionnaire,
    columns: Mapping[str, FileColumn],
    cells: Mapping[str, ColumnCells],
    rows: int,
    ledger: Ledger,
    source: str,
) -> SurveyPeople:
    """Everybody in the file. The ledger notes what was odd; who cannot be used is told by `stays`, and counted.

    Raises `BenchmarkError` for codes of a profile field that stand nowhere, and an age without a year.
    """
    year = None if "year" in questionnaire.everyone else _years(questionnaire, cells)
    told: dict[str, tuple[list[str], np.ndarray]] = {}
    absent: dict[str, Counter[str]] = {}
    for name, column in questionnaire.of("profile").items():
        if column.source == "birth_year":
            told["age"] = _age(questionnaire, cells[name], column, year, absent, source)
        else:
            told[column.field] = _field(questionnaire, name, column, columns[name], cells[name], absent, source)
    if year is not None:
        told.setdefault("year", year)
    profiles, profile_of = _profiles(told, questionnaire.everyone, rows)
    person, wave = (questionnaire.column_of(role) for role in ("person", "wave"))
    ids, unit, twice = _ids(cells.get(person), cells.get(wave), profile_of, ledger, rows)
    weight, replicates, unweighted = _weights(questionnaire, cells)
    stays = np.ones(rows, dtype=bool)
    for reason, lost in (("respondent who occurs before", twice), *unweighted.items()):
        ledger.note(f"{reason}, left out", int((lost & stays).sum()))
        stays &= ~lost
    fields = group_fields(questionnaire)
    return SurveyPeople(
        ids=ids,
        unit=unit,
        profiles=profiles,
        profile_of=profile_of,
        group=_groups(profiles, fields)[profile_of],
        weight=weight,
        language=_language(questionnaire, cells),
        design=_design(questionnaire, cells, ledger, stays) | replicates,
        stays=stays,
        absent=absent,
    )


def group_fields(questionnaire: Questionnaire) -> tuple[str, ...]:
    """The fields that make a group: those that the questionnaire names, or else the country."""
    return questionnaire.group_by or ("country",)


# --- profiles --------------------------------------------------------------------------------------------------------


def _field(
    questionnaire: Questionnaire,
    name: str,
    column: ColumnEntry,
    file: FileColumn,
    cells: ColumnCells,
    absent: dict[str, Counter[str]],
    source: str,
) -> tuple[list[str], np.ndarray]:
    """The texts of one field, and each respondent's place among them, or `EMPTY`."""
    counts = cells.counts()
    texts: list[str] = []
    places: list[int] = []
    unlisted: list[int] = []
    why: Counter[str] = Counter({"empty": int((cells.codes < 0).sum())})
    for number, code in enumerate(cells.texts):
        text, reason = _field_text(column, code, file)
        if text is not None:
            text, reason = _plain_value(column.field, text)
        if reason is not None:
            why[reason] += int(counts[number])
        if reason == UNLISTED:
            unlisted.append(number)
        places.append(EMPTY if text is None else len(texts))
        texts += [] if text is None else [text]
    if unlisted and questionnaire.unlisted == "refuse":
        raise BenchmarkError(unmapped(name, cells, unlisted, [*column.options, *column.no_answer], source))
    absent[column.field] = +why
    return texts, cells.coded(places, EMPTY)


def _plain_value(field: str, text: str) -> tuple[str | None, str | None]:
    """As `read_value`; what is no plain text is absent, and says so."""
    try:
        return read_value(field, text)
    except ProfileError:
        return None, STRUCTURE


def _field_text(column: ColumnEntry, code: str, file: FileColumn) -> tuple[str | None, str | None]:
    """What a code says of a person, or why nothing."""
    if code in column.options:
        return str(column.options[code]), None
    if code in column.no_answer or file.is_missing(code):
        return None, ABSENT
    number = cell_number(code)
    if column.bins:
        inside = number is not None and column.bins[0] <= number <= column.bins[-1]
        if not inside or number is None:
            return None, ABSENT if is_absent(code) else "no number within the bins"
        place = min(int(np.searchsorted(column.bins, number, side="right")) - 1, len(column.bins) - 2)
        return bin_texts(column.bins)[place] + (" years old" if column.field == "age" else ""), None
    if column.source == "country_code":
        country = country_of(code)
        return country, None if country else ABSENT if is_absent(code) else UNKNOWN_COUNTRY
    if not column.options or (column.field in NUMBERED and number is not None) or is_absent(code):
        return code, None
    return None, UNLISTED


def _years(questionnaire: Questionnaire, cells: Mapping[str, ColumnCells]) -> tuple[list[str], np.ndarray] | None:
    """The year of each respondent's interview, from the wave; None: it is not known."""
    name = questionnaire.column_of("wave")
    if not name:
        return None
    options, wave = questionnaire.columns[name].options, cells[name]
    texts = [str(options.get(text, text)) for text in wave.texts]
    found = [match[0] if (match := _YEAR.search(text)) else None for text in texts]
    if not any(found):
        return None
    years = [year for year in found if year]
    places = iter(range(len(years)))
    return years, wave.coded([EMPTY if year is None else next(places) for year in found], EMPTY)


def _age(
    questionnaire: Questionnaire,
    cells: ColumnCells,
    column: ColumnEntry,
    year: tuple[list[str], np.ndarray] | None,
    absent: dict[str, Counter[str]],
    source: str,
) -> tuple[list[str], np.ndarray]:
    """Age as the year of the interview less the year of birth."""
    asked = questionnaire.everyone.get("year", "")
    if year is None and not asked.isdecimal():
        raise BenchmarkError(
            f"{source}: age from the year of birth needs the year of the interview: a column of the role wave (with "
            "options: code → year where its codes are no years), or everyone: {year: '2020'}."
        )
    known = cells.numbers()
    for code in column.no_answer:
        known[cells.codes == (cells.texts.index(code) if code in cells.texts else -2)] = np.nan
    when = (
        np.full(len(known), float(asked or "nan"))
        if year is None
        else np.append([*map(float, year[0])], np.nan)[year[1]]
    )
    ages = when - known
    usable = (ages >= 0) & (ages <= 120) & (ages == np.floor(ages))
    absent["age"] = +Counter(
        {"empty": int((cells.codes < 0).sum()), "no age from 0 to 120": int((~usable & (cells.codes >= 0)).sum())}
    )
    return [str(age) for age in range(121)], np.where(usable, np.nan_to_num(ages), EMPTY).astype(np.int32)


def _profiles(
    told: Mapping[str, tuple[list[str], np.ndarray]], everyone: Mapping[str, str], rows: int
) -> tuple[list[Profile], np.ndarray]:
    """The distinct profiles, and each respondent's place among them."""
    names = [name for name in FIELDS if name in told]
    places = np.stack([told[name][1] for name in names], axis=1) if names else np.zeros((rows, 0), np.int32)
    distinct, place = (
        np.unique(places, axis=0, return_inverse=True) if names else (places[:1], np.zeros(rows, dtype=np.int64))
    )
    profiles = [
        Profile(**everyone, **{name: told[name][0][at] for name, at in zip(names, row, strict=True) if at >= 0})
        for row in distinct.tolist()
    ]
    return profiles, place.reshape(-1)


def _groups(profiles: Sequence[Profile], fields: Sequence[str]) -> np.ndarray:
    labels = [", ".join(getattr(profile, name) or NOT_KNOWN for name in fields) for profile in profiles]
    return np.array(labels, dtype=object)


# --- ids, weights, design --------------------------------------------------------------------------------------------


def _ids(
    person: ColumnCells | None, wave: ColumnCells | None, profile_of: np.ndarray, ledger: Ledger, rows: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[N] ids, [N] units, and who occurs twice: rows of one id in another wave or of another profile are others."""
    if person is None:
        ledger.note("respondent without an id, taken for a person of their own", rows)
        ids = np.array([f"row {row}" for row in range(rows)], dtype=object)
        return ids, ids, np.zeros(rows, dtype=bool)
    check_ids(person.texts, "The column of the role person")
    named = person.coded([EMPTY if is_absent(text) else place for place, text in enumerate(person.texts)], EMPTY)
    units = [person.texts[code] if code >= 0 else f"row {row}" for row, code in enumerate(named.tolist())]
    ledger.note("respondent without an id, taken for a person of their own", int((named < 0).sum()))
    taken, made = set(units), []
    first: dict[str, dict[tuple[int, int], str]] = {}
    twice = np.zeros(rows, dtype=bool)
    waves = wave.codes.tolist() if wave is not None else [0] * rows
    for row, (unit, key) in enumerate(zip(units, zip(waves, profile_of.tolist(), strict=True), strict=True)):
        its = first.setdefault(unit, {})
        twice[row] = key in its
        name = unit if not its else f"{unit} ({len(its) + 1})"
        while its and key not in its and name in taken:
            name += "'"
        made.append(its.setdefault(key, name))
        taken.add(made[-1])
    ledger.note(
        "id whose rows differ in wave or profile, taken for several people", sum(len(its) > 1 for its in first.values())
    )
    return np.array(made, dtype=object), np.array(units, dtype=object), twice


def _weights(
    questionnaire: Questionnaire, cells: Mapping[str, ColumnCells]
) -> tuple[np.ndarray | None, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The weights, the replicate weights by their name in the design, and why → who cannot be used."""
    found, lost = [], {}
    for role, what in (("weight", "weight"), ("replicate", "replicate weight")):
        names = list(questionnaire.of(role))
        weights = np.stack([cells[name].numbers() for name in names], axis=1) if names else None
        if weights is not None:
            lost[f"respondent without a {what}"] = np.isnan(weights).any(axis=1)
            lost[f"respondent with a negative {what}"] = (weights < 0).any(axis=1)
            weights = np.nan_to_num(weights)
        found.append(weights)
    whole, replicates = found
    return None if whole is None else whole[:, 0], {} if replicates is None else {_REPLICATES: replicates}, lost


def _language(questionnaire: Questionnaire, cells: Mapping[str, ColumnCells]) -> np.ndarray | None:
    name = questionnaire.column_of("language")
    if not name:
        return None
    column = questionnaire.columns[name]
    known = [str(column.options.get(text, text)) for text in cells[name].texts]
    texts = [text if text in questionnaire.languages else "" for text in known]
    return np.array([*texts, ""], dtype=object)[cells[name].codes]


def _design(
    questionnaire: Questionnaire, cells: Mapping[str, ColumnCells], ledger: Ledger, stays: np.ndarray
) -> dict[str, np.ndarray]:
    found: dict[str, Any] = {}
    for role in ("stratum", "unit"):
        if name := questionnaire.column_of(role):
            column = questionnaire.columns[name]
            texts = ["" if text in column.no_answer or is_absent(text) else text for text in cells[name].texts]
            found[role] = np.array([*texts, ""], dtype=object)[cells[name].codes]
            ledger.note(
                f"respondent without a {'stratum' if role == 'stratum' else 'sampling unit'}, kept, and none in the "
                "design",
                int((found[role][stays] == "").sum()),
            )
    return found


def design_table(respondents: SurveyPeople, chosen: np.ndarray) -> pa.Table:
    """person_id, stratum, unit and, if there are any, replicate_weights of some respondents, one row each."""
    design = respondents.design
    columns: dict[str, Any] = {"person_id": pa.array(respondents.ids[chosen], type=pa.string())}
    for role in ("stratum", "unit"):
        texts = design[role][chosen] if role in design else [""] * len(chosen)
        columns[role] = pa.array([text or None for text in texts], type=pa.string())
    if _REPLICATES in design:
        columns[_REPLICATES] = pa.array(list(design[_REPLICATES][chosen]), type=pa.list_(pa.float64()))
    return pa.table(columns)
