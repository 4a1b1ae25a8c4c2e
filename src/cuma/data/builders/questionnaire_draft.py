"""A questionnaire drafted from a survey file: what each column may be, and for whatever was guessed, why.

A draft is for a person to correct. Nothing in it is hidden: what is left out has the role ignored, and says why.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cuma.data.builders.base import Ledger
from cuma.data.builders.cell_text import cell_number
from cuma.data.builders.codebook import Entry, read_codebook
from cuma.data.builders.column_words import ADMINISTRATION, KINDS, Words, bare, likeness
from cuma.data.builders.country_codes import country_of
from cuma.data.builders.questionnaire import SINGLE, ColumnEntry, Questionnaire, ReplicateWeights, Wording
from cuma.data.builders.questionnaire_file import plain
from cuma.data.builders.respondent_columns import ColumnCells
from cuma.data.builders.respondent_file import open_respondents, read_cells
from cuma.data.builders.scales import in_scale_order, is_ordinal
from cuma.data.builders.seen_column import MANY, SeenColumn, seen_column
from cuma.data.surveys.prompts import LETTERS
from cuma.people.absence import is_absent
from cuma.recipes import strict_yaml

_IDS = tuple(words for words in KINDS if words.role == "person")
_KEPT = 5_000
"""Distinct cells of a column that are looked at, of ids all."""
_BEST = ("anweight", "pspwght", "wtssps", "wtssnrps", "wtssall")
"""Of several weights, those that their surveys advise for most uses."""
_HIGH = ("997", "998", "999", "9998", "9999")
_GROUPS = ("country", "party", "ethnicity", "region", "religion", "education", "urban_rural", "sex")
"""Fields that are proposed to group by, the first one that divides the people."""
_GROUP_VALUES = 12


def draft(path: Path, codebook: Path | None = None) -> tuple[Questionnaire, Ledger]:
    """Read a file and guess its questionnaire; what was odd. Raises `BenchmarkError`."""
    ledger = Ledger()
    file = open_respondents(path, ledger)
    names = [column.name for column in file.columns]
    ids = {column.name for column in file.columns if any(likeness(words, column.name, column.label) for words in _IDS)}
    cells, _ = read_cells(file, names, path, ledger, limit=lambda name: None if name in ids else _KEPT)
    entries = read_codebook(codebook) if codebook else {}
    ledger.note(
        "column of the codebook that the file does not have", len(entries.keys() - {n.casefold() for n in names})
    )
    seen = [
        seen_column(column, cells[column.name], entries.get(column.name.casefold(), Entry())) for column in file.columns
    ]
    kinds, others = _kinds(seen)
    columns = {
        one.name: _ignored(one, others[one.name]) if one.name in others else _column(one, kinds.get(one.name))
        for one in seen
    }
    replicates = None
    if any(column.role == "replicate" for column in columns.values()):
        replicates = ReplicateWeights(kind=None)
    group_by, why = _groups(columns, cells)
    return Questionnaire(
        columns=columns, title=path.stem, group_by=group_by, replicates=replicates, guessed=why
    ), ledger


# --- roles -----------------------------------------------------------------------------------------------------------


def _kinds(seen: list[SeenColumn]) -> tuple[dict[str, Words], dict[str, str]]:
    """Column → what it looks like; and of those that look like another's role, why they are left out.

    One column a role or field: the one that looks most like it, then the first.
    """
    best: dict[tuple[str, str], tuple[int, SeenColumn, Words]] = {}
    alike: dict[str, str] = {}
    for one in seen:
        scored = [(likeness(words, one.name, one.file.label), words) for words in KINDS]
        score, words = max(scored, key=lambda pair: pair[0])
        if not score or not _fits(one, words):
            continue
        key = (words.role, words.field) if words.role in (*SINGLE, "profile") else (words.role, one.name)
        rank = 2 * score - (words.source == "birth_year") + (one.name.casefold() in _BEST)
        if words.role in SINGLE or words.source == "birth_year":
            alike[one.name] = words.role if words.role in SINGLE else words.field
        if key not in best or rank > best[key][0]:
            best[key] = rank, one, words
    found = {one.name: words for _, one, words in best.values()}
    lost = {name: f"role: looks like {role}, which another column has" for name, role in alike.items()}
    return found, {name: why for name, why in lost.items() if name not in found}


def _fits(one: SeenColumn, words: Words) -> bool:
    """Whether a column's cells can be what its name says."""
    distinct, rows = len(one.cells.texts), len(one.cells.codes)
    if words.role == "person":
        return distinct == rows
    if words.role in ("weight", "replicate"):
        return one.numeric and not one.labelled and all((cell_number(t) or 0) >= 0 for t in one.options)
    if words.role in ("stratum", "unit"):
        return distinct > 1
    if words.field == "age":
        return one.numeric and distinct > 1
    return 0 < distinct <= MANY


def _column(one: SeenColumn, words: Words | None) -> ColumnEntry:
    if words is not None and words.role not in ("profile", "language"):
        return ColumnEntry(role=words.role, text=one.text or None, guessed=(_why(one, words),))
    if words is not None and words.role == "language":
        note = "role: the interview's language; role language where items are worded in several"
        return _ignored(one, note)
    if words is not None:
        return _profile(one, words)
    reason = _not_asked(one)
    return _ignored(one, reason) if reason else _item(one)


def _why(one: SeenColumn, words: Words) -> str:
    by = "name" if words.names.fullmatch(one.name.casefold()) else "label"
    return f"role: by the column's {by}"


def _ignored(one: SeenColumn, why: str) -> ColumnEntry:
    """What is left out; with few codes they are kept, so that another role is one word away."""
    small = len(one.options) <= len(LETTERS)
    options = {code: text or code for code, text in one.options.items()} if small else {}
    known = dict(one.no_answer) if small else {}
    made = ColumnEntry(role="ignored", text=one.text or None, guessed=(why,))
    return replace(made, options=_wordings(options), no_answer=known)


def _not_asked(one: SeenColumn) -> str:
    """Why a column is no item; "" if it may be one."""
    present = [text for text in one.cells.texts if text not in one.no_answer]
    if not present:
        return "role: no answers in the file"
    if ADMINISTRATION.search(re.sub(r"[_.]+", " ", one.name.casefold())) or ADMINISTRATION.search(bare(one.file.label)):
        return "role: about the interview, or a fact without a profile field"
    if one.file.dated:
        return "role: a date or time"
    if len(present) == 1:
        return "role: everybody has the same"
    if one.numeric and not one.labelled and not one.text:
        return "role: neither the column nor its codes have labels; give its text and options, or a codebook"
    if len(one.options) > len(LETTERS) or not one.options:
        if one.numeric and _range(one) == (0.0, 100.0):
            return ""
        return f"role: more than {len(LETTERS)} distinct answers; a scale of numbers can be an item with bins"
    if len({text or code for code, text in one.options.items()}) < 2:
        return "role: fewer than two options"
    if not one.numeric and not one.labelled and any(len(text) > 80 for text in one.options):
        return "role: free text, it seems"
    return ""


def _range(one: SeenColumn) -> tuple[float, float] | None:
    """Lowest and highest number, without codes such as 998."""
    numbers = [n for t in one.cells.texts if t not in (*one.no_answer, *_HIGH) and (n := cell_number(t)) is not None]
    return (min(numbers), max(numbers)) if numbers else None


def _profile(one: SeenColumn, words: Words) -> ColumnEntry:
    made = ColumnEntry(role="profile", field=words.field, text=one.text or None, guessed=(_why(one, words),))
    no_answer = dict(one.no_answer)
    options = dict(one.options)
    for code, text in one.options.items():
        if text and is_absent(text):
            no_answer[code] = text
            del options[code]
    if words.source == "birth_year":
        note = "source: ages need the year of the interview, by a column of the role wave or everyone: {year: '2020'}"
        return replace(made, source="birth_year", no_answer=no_answer, guessed=(*made.guessed, note))
    if words.field == "age":
        told = {code: re.sub(r"(?i)^age\s+", "", text) for code, text in options.items() if text and text != code}
        return replace(made, options=_wordings(told), no_answer=no_answer)
    if words.field in ("country", "birth_country") and not one.labelled and all(map(country_of, options)):
        return replace(made, source="country_code", no_answer=no_answer)
    if not one.labelled and one.name.casefold() in ("female", "male") and options.keys() == {"0", "1"}:
        texts = ("Male", "Female") if one.name.casefold() == "female" else ("Female", "Male")
        note = f"options: 1 is {texts[1]}, by the column's name"
        return replace(
            made, options=dict(zip("01", texts, strict=True)), no_answer=no_answer, guessed=(*made.guessed, note)
        )
    if one.numeric and not one.labelled:
        return _ignored(one, f"role: looks like {words.field}, and its codes have no labels: say what they mean")
    if one.labelled:
        told = {code: text or code for code, text in options.items()}
        return replace(made, options=_wordings(told), no_answer=no_answer)
    return replace(made, no_answer=no_answer)


def _item(one: SeenColumn) -> ColumnEntry:
    notes = list(one.notes)
    text = one.text
    if not text:
        text = " ".join(re.sub(r"[_.]+", " ", one.name).split()) or one.name
        notes.append("text: the file has no label, this is the column's name")
    if len(one.options) > len(LETTERS) or not one.options:
        high = {code: "a missing code" for code in one.cells.texts if code in _HIGH and code not in one.no_answer}
        notes += ["bins: numbers from 0 to 100, cut into five"]
        notes += [f"no_answer: {', '.join(high)}: above the scale"] if high else []
        return ColumnEntry(
            role="item",
            text=text,
            bins=(0, 20, 40, 60, 80, 100),
            no_answer={**one.no_answer, **high},
            ordinal=True,
            guessed=tuple(notes),
        )
    options, ordinal, why = _options(one)
    twice = [code for code, text in options.items() if list(options.values()).count(text) > 1]
    notes += [f"options: {', '.join(twice[:6])} have one label, and are one option"] if twice else []
    return ColumnEntry(
        role="item",
        text=text,
        options=_wordings(options),
        no_answer=dict(one.no_answer),
        ordinal=ordinal,
        guessed=(*notes, *why),
    )


def _options(one: SeenColumn) -> tuple[dict[str, str], bool, list[str]]:
    """Code → option, whether they are a scale, and what was guessed."""
    bare_codes = [code for code, text in one.options.items() if not text]
    if not one.labelled:
        options = {code: code for code in one.options}
        if one.numeric:
            return options, len(options) > 2, ["options: the codes have no labels", "ordinal: numbers"]
        options = {text: options[text] for text in in_scale_order(list(options))}
        return (
            options,
            is_ordinal(list(options)),
            ["options: as they stand in the file, in this order", "ordinal: by words"],
        )
    if bare_codes and one.numeric:
        whole = _filled(one)
        options = {code: f"{code}: {text}" if text else code for code, text in whole.items()}
        return options, True, ["options: some codes have no labels, their numbers are told", "ordinal: numbers"]
    options = {code: text or code for code, text in one.options.items()}
    words = is_ordinal(list(options.values()))
    if one.file.ordinal or words or len(options) == 2:
        return options, (one.file.ordinal or words) and len(options) > 2, []
    return options, False, ["ordinal: no scale that is known by its words"]


def _filled(one: SeenColumn) -> dict[str, str]:
    """The options with whole numbers between the first and the last that nobody chose."""
    numbers = [cell_number(code) or 0.0 for code in one.options]
    low, high = min(numbers), max(numbers)
    if any(n != int(n) for n in numbers) or high - low >= len(LETTERS):
        return dict(one.options)
    return {str(n): one.options.get(str(n), "") for n in range(int(low), int(high) + 1)}


def _wordings(options: Mapping[str, str]) -> dict[str, Wording]:
    return dict(options)


def _groups(
    columns: Mapping[str, ColumnEntry], cells: Mapping[str, ColumnCells]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The field that makes groups, and why it was taken."""
    for field in _GROUPS:
        for name, column in columns.items():
            if column.role != "profile" or column.field != field:
                continue
            told = [t for t in cells[name].texts if t not in column.no_answer and not is_absent(t)]
            values = {column.options.get(text, text) if column.options else text for text in map(str, told)}
            if len(values) > 1 and (field == "country" or len(values) <= _GROUP_VALUES):
                return (field,), (f"group_by: {field}, which has {len(values)} values",)
    return (), ("group_by: no field divides the people; all are one group",)


def as_yaml(questionnaire: Questionnaire, source: Path) -> str:
    """The draft as a person gets it."""
    tree: dict[str, Any] = plain(questionnaire)
    columns = tree.pop("columns")
    return _HEAD.format(file=source.name) + strict_yaml.dump({**tree, "columns": columns}, compact=True)


_HEAD = """\
# What the columns of {file} are. Drafted: read every line under `guessed`, correct what is wrong, delete what is right.
# role: item, profile, weight, stratum, unit, person, wave, language, replicate, ignored.
"""
