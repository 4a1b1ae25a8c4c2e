"""`cuma data check FILE --questionnaire Q`: how each item was answered, and what would be left out, and why."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cuma.data.builders.check import fields_table, reasons_tables
from cuma.data.builders.own_survey import SurveyFile
from cuma.data.builders.respondents import group_fields
from cuma.data.surveys.survey import NO_ANSWER
from cuma.people.profiles import FIELDS
from cuma.privacy.small_groups import MIN_PEOPLE, hidden, people_text


def survey_summary(survey: SurveyFile) -> dict[str, Any]:
    """The findings as plain types. An option that fewer than 11 people chose has no share (None)."""
    people, stays, asked = survey.people, survey.people.stays, survey.questionnaire
    weight = np.ones(len(stays)) if people.weight is None else people.weight
    sizes = Counter(people.group[stays])
    unread = {column for column, entry in asked.columns.items() if entry.role == "ignored"}
    return {
        "respondents": len(stays),
        "usable": int(stays.sum()),
        "weighted": people.weight is not None,
        "group_by": list(group_fields(asked)),
        "groups": len(sizes),
        "small_groups": sum(size < MIN_PEOPLE for size in sizes.values()),
        "design": [role for role in ("weight", "stratum", "unit", "replicate") if asked.of(role)],
        "ignored": len(unread),
        "guessed": sum(bool(column.guessed) for column in asked.columns.values()),
        "languages": list(asked.languages),
        "profile_fields": _profile_fields(survey),
        "items": [_item(survey, place, weight) for place in range(len(survey.items))],
        "dropped": dict(survey.ledger.dropped.most_common()),
        "noted": dict(survey.ledger.noted.most_common()),
    }


def _profile_fields(survey: SurveyFile) -> dict[str, dict[str, Any]]:
    people = survey.people
    times = np.bincount(people.profile_of[people.stays], minlength=len(people.profiles))
    found = {}
    for name in FIELDS:
        values = {getattr(profile, name) for profile, n in zip(people.profiles, times, strict=True) if n} - {None}
        present = sum(int(n) for profile, n in zip(people.profiles, times, strict=True) if getattr(profile, name))
        if present or name in people.absent:
            found[name] = {
                "present": present,
                "absent": int(people.stays.sum()) - present,
                "why": dict(people.absent.get(name, Counter()).most_common()),
                "values": len(values),
            }
    return found


def _item(survey: SurveyFile, place: int, weight: np.ndarray) -> dict[str, Any]:
    item, language = survey.items[place], survey.questionnaire.languages[0]
    options = item.options[language]
    inside = (survey.answers[:, place] != NO_ANSWER) & survey.people.stays
    coded = survey.answers[inside, place]
    counts = np.bincount(coded, minlength=len(options))
    sums = np.bincount(coded, weight[inside], minlength=len(options))
    few = hidden({option: int(count) for option, count in enumerate(counts) if count})
    shares = sums / (sums.sum() or 1)
    return {
        "question_id": item.id,
        "question": item.texts[language],
        "options": list(options),
        "ordinal": item.ordinal,
        "answers": int(inside.sum()),
        "shares": [None if option in few else float(share) for option, share in enumerate(shares)],
        "no_answer": dict(survey.reasons[place].most_common()),
    }


def survey_page(source: Path, survey: SurveyFile) -> RenderableType:
    """The findings as tables for a terminal."""
    found = survey_summary(survey)
    groups = f"{found['groups']:,} by {', '.join(found['group_by'])}"
    if found["small_groups"]:
        groups += f", {found['small_groups']:,} of them with fewer than {MIN_PEOPLE} people"
    head = Table.grid(padding=(0, 2))
    for name, value in (
        ("File", str(source)),
        ("Respondents", f"{found['respondents']:,}, {found['usable']:,} usable"),
        ("Groups", groups),
        ("Design", ", ".join(found["design"]) or "not told: everybody counts alike"),
        ("Columns ignored", f"{found['ignored']:,}"),
        ("Columns with guesses", f"{found['guessed']:,}"),
        ("Languages", ", ".join(found["languages"])),
    ):
        head.add_row(Text(name, style="bold"), Text(value))
    parts: list[RenderableType] = [head, "", _items(found)]
    if found["profile_fields"]:
        parts += ["", fields_table(found["profile_fields"], found["usable"])]
    parts += reasons_tables(found, "Cells that are no answer")
    return Group(*parts)


def _items(found: dict[str, Any]) -> Table:
    title = "What is asked, and the shares of answers" + (", weighted" if found["weighted"] else "")
    table = Table("Item", "Question", "Answers", "Options and shares", "Order", "No answer", title=title,
                  title_justify="left")  # fmt: skip
    for of in found["items"]:
        shares = [
            f"{option} {'few' if share is None else f'{share:.1%}'}"
            for option, share in zip(of["options"], of["shares"], strict=True)
        ]
        table.add_row(
            Text(of["question_id"]),
            Text(of["question"]),
            people_text(of["answers"]),
            Text(" · ".join(shares)),
            "a scale" if of["ordinal"] else "names" if len(shares) > 2 else "",
            Text("; ".join(f"{people_text(times)} {reason}" for reason, times in of["no_answer"].items())),
        )
    return table
