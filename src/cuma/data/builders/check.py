"""`cuma data check`: what was understood of a file, before anything is made of it. Counts only, never a value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cuma.data.builders.own import FORMS, Understood
from cuma.people.profiles import FIELDS


def summary(understood: Understood) -> dict[str, Any]:
    """The findings as plain types: task, rows, columns, profile fields with their absence, and what cannot be used."""
    rows = len(understood.rows)
    return {
        "task": understood.task,
        "rows_read": understood.ledger.rows_read,
        "rows_usable": rows,
        "people": len({row.person for row in understood.rows}),
        "groups": len({row.group for row in understood.rows}),
        "columns_used": list(understood.used),
        "columns_unused": list(understood.unused),
        "profile_fields": {
            name: {
                "present": understood.present[name],
                "absent": rows - understood.present[name],
                "values": len(understood.values[name]),
            }
            for name in FIELDS
            if understood.present[name]
        },
        "rows_without_profile": sum(not row.profile for row in understood.rows),
        "dropped": dict(understood.ledger.dropped.most_common()),
        "noted": dict(understood.ledger.noted.most_common()),
    }


def page(source: Path, found: dict[str, Any]) -> RenderableType:
    """The findings as tables for a terminal."""
    rows = found["rows_usable"]
    needed = "+".join(FORMS[found["task"]])
    head = Table.grid(padding=(0, 2))
    for name, value in (
        ("File", str(source)),
        ("Understood as", f"{found['task']} ({needed})"),
        ("Rows", f"{found['rows_read']:,} read, {rows:,} usable"),
        ("People, groups", f"{found['people']:,}, {found['groups']:,}"),
        ("Columns used", ", ".join(found["columns_used"])),
        ("Columns not used", ", ".join(found["columns_unused"]) or "none"),
        ("Rows without profile", f"{found['rows_without_profile']:,}"),
    ):
        head.add_row(Text(name, style="bold"), Text(value))
    parts: list[RenderableType] = [head]
    if found["profile_fields"]:
        fields = Table("Profile field", "Present", "Absent", "Distinct values", title="Who asks", title_justify="left")
        for name, of in found["profile_fields"].items():
            share = of["absent"] / rows
            fields.add_row(name, f"{of['present']:,}", f"{of['absent']:,} ({share:.0%})", f"{of['values']:,}")
        parts += ["", fields]
    for title, key in (("Cannot be used", "dropped"), ("Odd, but usable", "noted")):
        if found[key]:
            table = Table("Why", "Times", title=title, title_justify="left")
            for reason, times in found[key].items():
                table.add_row(Text(reason), f"{times:,}")
            parts += ["", table]
    return Group(*parts)
