"""`cuma data check`: what every row of a file becomes, before anything is made of it, and what does not, and why.

Nobody's row is shown: the sentence is that of a made-up person, who has the commonest value of every field.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cuma.data.builders.own import Understood
from cuma.data.builders.own_columns import FORMS
from cuma.data.builders.own_items import FileItem
from cuma.people.profiles import FIELDS, Profile


def summary(understood: Understood) -> dict[str, Any]:
    """The findings as plain types: task, rows, columns, profile fields, questions, and what cannot be used."""
    values = {name: Counter(v for row in understood.rows if (v := getattr(row.profile, name)) is not None)
              for name in FIELDS}  # fmt: skip
    answers = Counter(row.values.get("question_id") for row in understood.rows)
    rows = len(understood.rows)
    return {
        "tasks": {task: sum(row.task == task for row in understood.rows) for task in understood.tasks},
        "rows_read": understood.ledger.rows_read,
        "rows_usable": rows,
        "people": len({row.person for row in understood.rows}),
        "groups": len({row.group for row in understood.rows}),
        "columns_used": list(understood.used),
        "columns_unused": list(understood.unused),
        "profile_fields": {
            name: {
                "present": values[name].total(),
                "absent": rows - values[name].total(),
                "why": dict(understood.absent.get(name, Counter()).most_common()),
                "values": len(values[name]),
            }
            for name in FIELDS
            if values[name] or name in understood.absent
        },
        "rows_without_profile": sum(not row.profile for row in understood.rows),
        "sentence": _commonest(values),
        "questions": [_question(item, answers[item.id]) for item in understood.items],
        "dropped": dict(understood.ledger.dropped.most_common()),
        "noted": dict(understood.ledger.noted.most_common()),
        "warnings": understood.warnings(),
    }


def _commonest(values: dict[str, Counter[str]]) -> str:
    """The sentence of a made-up person. A description is somebody's own, and left out."""
    common = {name: max((times, value) for value, times in its.items())[1]
              for name, its in values.items() if its and name != "description"}  # fmt: skip
    return Profile(**common).sentence


def _question(item: FileItem, answers: int) -> dict[str, Any]:
    return {
        "question_id": item.id,
        "question": item.text,
        "options": list(item.labels),
        "ordinal": item.ordinal,
        "ordinal_guessed": item.ordinal_guessed,
        "codes": _codes(item),
        "answers": answers,
        "left_out": {reason: times for reason, times in item.left_out.most_common() if times},
    }


def _codes(item: FileItem) -> dict[str, str]:
    """What stands in the file → the option that it becomes, where the two differ."""
    if item.reading is None:
        return {}
    first = {"from_zero": 0, "from_one": 1}.get(item.reading.codes) if item.reading.coded else None
    codes = {} if first is None else {str(place + first): option for place, option in enumerate(item.labels)}
    names = {text: item.labels[place] for text, place in item.reading.named.items()}
    return {text: option for text, option in {**codes, **dict(sorted(names.items()))}.items() if text != option}


def page(sources: Sequence[Path], found: dict[str, Any]) -> RenderableType:
    """The findings as tables for a terminal."""
    head = Table.grid(padding=(0, 2))
    several = len(found["tasks"]) > 1
    for name, value in (
        ("File" if len(sources) == 1 else "Files", ", ".join(map(str, sources))),
        *(
            (
                "Understood as",
                f"{task} ({'messages, or ' if task == 'sft' else ''}{'+'.join(FORMS[task])})"
                + (f": {rows:,} rows" if several else ""),
            )
            for task, rows in found["tasks"].items()
        ),
        ("Rows", f"{found['rows_read']:,} read, {found['rows_usable']:,} usable"),
        ("People, groups", f"{found['people']:,}, {found['groups']:,}"),
        ("Columns used", ", ".join(found["columns_used"])),
        ("Columns not used", ", ".join(found["columns_unused"]) or "none"),
        ("Rows without profile", f"{found['rows_without_profile']:,}"),
        ("A made-up person", found["sentence"] or "has no sentence: nothing is known of people"),
    ):
        head.add_row(Text(name, style="bold"), Text(value))
    parts: list[RenderableType] = [head]
    if found["profile_fields"]:
        parts += ["", fields_table(found["profile_fields"], found["rows_usable"])]
    if found["questions"]:
        parts += ["", _questions(found["questions"])]
    parts += reasons_tables(found, "Cannot be used")
    parts += [Text(f"Warning: {warning}", style="yellow") for warning in found["warnings"]]
    return Group(*parts)


def reasons_tables(found: dict[str, Any], dropped: str) -> list[RenderableType]:
    """A table of what was dropped, under that title, and one of what was odd, each where there is any."""
    parts: list[RenderableType] = []
    for title, key in ((dropped, "dropped"), ("Odd, but usable", "noted")):
        if found[key]:
            table = Table("Why", "Times", title=title, title_justify="left")
            for reason, times in found[key].items():
                table.add_row(Text(reason), f"{times:,}")
            parts += ["", table]
    return parts


def fields_table(fields: dict[str, dict[str, Any]], people: int) -> Table:
    """How many of so many people, or rows, have each profile field, and why the others have not."""
    table = Table("Profile field", "Present", "Absent", "Why, where a cell stands", "Distinct values", title="Who asks",
                  title_justify="left")  # fmt: skip
    for name, of in fields.items():
        share = of["absent"] / (people or 1)
        why = ", ".join(f"{reason} ({times:,})" for reason, times in of["why"].items())
        table.add_row(name, f"{of['present']:,}", f"{of['absent']:,} ({share:.0%})", Text(why), f"{of['values']:,}")
    return table


def _questions(questions: list[dict[str, Any]]) -> Table:
    table = Table("Question", "Answers", "Options", "Order", "Left out", title="What is asked", title_justify="left")
    for of in questions:
        order = "a scale" if of["ordinal"] else "names"
        guessed = " (guessed: give `ordinal`)" if of["ordinal_guessed"] else ""
        codes = {option: text for text, option in reversed(of["codes"].items())}
        options = [f"{codes[option]} → {option}" if option in codes else option for option in of["options"]]
        table.add_row(
            Text(of["question"]),
            f"{of['answers']:,}",
            Text(" · ".join(options)),
            order + guessed if len(options) > 2 else "",
            Text("; ".join(f"{times:,} {reason}" for reason, times in of["left_out"].items())),
        )
    return table
