"""What the columns of somebody's file are: which of ours each one is, and which task they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cuma.data.builders.base import Ledger, Task
from cuma.data.builders.own_rows import DESIGN, GROUP, PEOPLE, PERSON, WEIGHT
from cuma.errors import BenchmarkError, suggestion
from cuma.people.profiles import FIELDS

FORMS: dict[Task, tuple[str, ...]] = {
    "dpo": ("prompt", "chosen", "rejected"),
    "distribution": ("question", "options", "distribution"),
    "survey": ("question", "options", "answer"),
    "sft": ("prompt", "completion"),
    "grpo": ("prompt",),
}
"""Task → the columns that make it, in the order in which a file is asked for them. `messages` is sft too."""
HOW = (
    "which a questionnaire explains: draft one with `cuma data draft FILE --output questionnaire.yaml`, correct it, "
    "and give it to `cuma data check` and `cuma data build own` as --questionnaire."
)
"""How a file with one row a respondent is read; the end of an error text."""
KNOWN = (
    "messages",
    *dict.fromkeys(c for cs in FORMS.values() for c in cs),
    "question_id",
    "ordinal",
    "answer_codes",
    "profile",
    PEOPLE,
    *DESIGN,
)


def check_there(columns: Mapping[Path, Sequence[str]], mapping: Mapping[str, str]) -> None:
    """Raise `BenchmarkError` for a mapped column that no file has. columns: file → its columns."""
    names = list(dict.fromkeys(name for its in columns.values() for name in its))
    missing = sorted(set(mapping.values()) - set(names))
    if missing:
        whose = f"{next(iter(columns))} lacks" if len(columns) == 1 else "None of the sources has"
        raise BenchmarkError(f"{whose} the column {missing[0]!r}. {suggestion(missing[0], names)}")


def renamed_columns(names: Sequence[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """A file's columns → our names. A column whose own name is mapped to another of the file is not read: ""."""
    ours = {theirs: our for our, theirs in mapping.items() if theirs in names}
    bare = {our.removeprefix("profile.") for our in ours.values()}
    return {name: ours.get(name, "" if name in bare else name) for name in names}


def used_columns(renamed: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The file's columns that mean something, and the others: beside a profile, so are columns named like fields."""
    ours = set(renamed.values())
    aside = {name for name in FIELDS if "profile" in ours or f"profile.{name}" in ours}
    used = tuple(name for name, our in renamed.items() if our and _is_known(our) and our not in aside)
    return used, tuple(name for name in renamed if name not in used)


def checked_mapping(columns: Mapping[str, str]) -> dict[str, str]:
    """Our name → the file's; a field is "profile.country". Raises `BenchmarkError` for names unknown or used twice."""
    for our in columns:
        if not _is_known(our):
            raise BenchmarkError(f"Unknown column name {our!r}. {suggestion(our, [*KNOWN, PERSON, GROUP, WEIGHT])}")
    names = [f"profile.{our}" if our in FIELDS else our for our in columns]
    for what, both in (("columns are mapped to", names), ("names are mapped from", list(columns.values()))):
        twice = [name for name, times in Counter(both).items() if times > 1]
        if twice:
            raise BenchmarkError(
                f"Two {what} {twice[0]!r}. Map each column to one name, and copy a column needed twice."
            )
    return dict(zip(names, columns.values(), strict=True))


def is_read(name: str, mapping: Mapping[str, str]) -> bool:
    """Whether a file's column of this name is one that a mapping, or its name, gives a meaning."""
    return name in mapping.values() or (name not in mapping and _is_known(name))


def _is_known(our: str) -> bool:
    return our in (*KNOWN, PERSON, GROUP, WEIGHT) or our.removeprefix("profile.") in FIELDS


def tasks_of(source: Path, names: set[str]) -> tuple[Task, ...]:
    """The tasks that a file's columns make, by our names, its own first. Raises `BenchmarkError` if there is none."""
    found = [task for task in FORMS if any(names >= form for form in _forms(task))]
    if found:
        return tuple(sorted(found, key=lambda task: not (task == "sft" and "messages" in names)))
    listed = f"the columns {', '.join(sorted(names)[:12])}{', …' if len(names) > 12 else ''}"
    if not any(map(_is_known, names)):  # then the first line may be no header, but somebody's answers
        listed = f"{len(names)} columns, none of a name that cuma knows (is the first line the header?)"
    forms = "; ".join("+".join(needed) for needed in FORMS.values())
    if len(names) > 2 and not names & {column for needed in FORMS.values() for column in needed}:
        raise BenchmarkError(
            f"{source} has {listed}: one row a respondent, it seems, with a column for each question, {HOW} If only "
            f"names differ from {forms}, map them with --column OURS=THEIRS."
        )
    raise BenchmarkError(
        f"{source} has {listed}; expected messages, or one of {forms}. Map other names with --column OURS=THEIRS."
    )


def task_of_row(row: Mapping[str, Any], tasks: Sequence[Task], ledger: Ledger) -> Task:
    """The one of its file's tasks that a row is of: the first whose columns it fills, else the one it fills most of.

    A prompt alone is of the task grpo only where the row has no column for a reply: an empty one has lost its reply.
    row: its columns under our names.
    """
    if len(tasks) == 1:
        return tasks[0]
    filled = {name for name, cell in row.items() if _says_something(cell)}
    others = {column for task in tasks for form in _forms(task) for column in form} - {"prompt"}
    possible = [task for task in tasks if task != "grpo" or not row.keys() & others]
    whole = [task for task in possible if any(filled >= form for form in _forms(task))]
    several = [task for task in whole if task != "grpo"]
    if len(several) > 1:
        ledger.note(f"row of several forms ({', '.join(several)}), of which the first counts")
    return whole[0] if whole else max(possible, key=lambda task: max(len(filled & form) for form in _forms(task)))


def _forms(task: Task) -> list[set[str]]:
    return [set(FORMS[task]), *([{"messages"}] if task == "sft" else [])]


def _says_something(cell: Any) -> bool:
    return bool(cell.strip()) if isinstance(cell, str) else cell is not None and cell != [] and cell == cell
