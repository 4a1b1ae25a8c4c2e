"""What the columns of somebody's file are: which of ours each one is, and which task they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from cuma.data.builders.base import Task
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


def renamed_columns(source: Path, names: tuple[str, ...], mapping: Mapping[str, str]) -> dict[str, str]:
    """The file's columns → our names. A column whose own name is mapped to another column is not read: ""."""
    missing = sorted(set(mapping.values()) - set(names))
    if missing:
        raise BenchmarkError(f"{source} lacks the column {missing[0]!r}. {suggestion(missing[0], names)}")
    ours = {theirs: our for our, theirs in mapping.items()}
    bare = {our.removeprefix("profile.") for our in mapping}
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


def task_of(source: Path, names: set[str]) -> Task:
    """The task that a file's columns make, by our names. Raises `BenchmarkError` if there is none."""
    if "messages" in names:
        return "sft"
    for task, needed in FORMS.items():
        if names >= set(needed):
            return task
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
