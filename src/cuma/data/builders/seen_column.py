"""A column as a survey file has it: its codes in their order, with labels that are read, and which are no answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cuma.data.builders.cell_text import cell_number
from cuma.data.builders.codebook import Entry
from cuma.data.builders.respondent_columns import ColumnCells, FileColumn
from cuma.data.builders.scales import is_no_answer
from cuma.people.absence import is_absent
from cuma.people.code_labels import label_of

MANY = 300
"""More distinct cells than any list of options has."""


@dataclass(frozen=True)
class SeenColumn:
    """A column as the file has it, read and not yet judged."""

    file: FileColumn
    cells: ColumnCells
    options: Mapping[str, str]
    """Code → text without the code's prefix, of what may be answered."""
    no_answer: Mapping[str, str]
    notes: tuple[str, ...]
    """What was guessed of these."""
    numeric: bool
    """Whether all that may be answered are numbers."""
    labelled: bool
    """Whether some of them have labels."""
    text: str

    @property
    def name(self) -> str:
        return self.file.name


def seen_column(column: FileColumn, cells: ColumnCells, entry: Entry) -> SeenColumn:
    """A column with its codes sorted into answers and others. entry: what a codebook says of it."""
    present = cells.texts
    labels = {**column.labels, **entry.options}
    if not labels and len(present) <= MANY:
        labels = _own_labels(present)
    codes = list(labels) + ([text for text in present if text not in labels] if len(present) <= MANY else [])
    scale = _below_zero(labels)
    options: dict[str, str] = {}
    no_answer: dict[str, str] = {}
    guessed: list[str] = []
    for code in codes:
        label = _unprefixed(labels.get(code, ""), code)
        if column.is_missing(code):
            no_answer[code] = label or "missing, says the file"
        elif is_no_answer(label or code) or (is_absent(code) and cell_number(code) not in scale):
            no_answer[code] = label or (code if cell_number(code) is None else "a missing code")
            guessed.append(code)
        else:
            options[code] = label
    notes = [f"no_answer: {', '.join(guessed[:6])}: by label or sign"] if guessed else []
    rest = [text for text in present if text not in no_answer]
    numeric = bool(rest) and all(cell_number(text) is not None for text in rest)
    return SeenColumn(
        file=column,
        cells=cells,
        options=_in_order(options, numeric),
        no_answer=no_answer,
        notes=tuple(notes),
        numeric=numeric,
        labelled=any(options.values()),
        text=entry.text or column.label,
    )


def _own_labels(texts: list[str]) -> dict[str, str]:
    """Cells that are labels with their code before them ("2. Female"), each as its own code."""
    return {text: text for text in texts} if texts and all(label_of(text)[0] is not None for text in texts) else {}


def _unprefixed(label: str, code: str) -> str:
    """A label without the code that it begins with."""
    own, bare = label_of(label)
    if own is not None and (label == code or own == cell_number(code)):
        return bare
    match = re.match(rf"{re.escape(code)}\s*[.):=]\s+(?=\S)", label)
    return label[match.end() :] if match else label


def _below_zero(labels: Mapping[str, str]) -> set[float]:
    """Negative codes that are one side of a scale such as -2 to 2, and no missing codes: both sides have labels."""
    told = {code: _unprefixed(label, code) for code, label in labels.items()}
    steps = {n for code, text in told.items() if (n := cell_number(code)) is not None and not is_no_answer(text)}
    size = next(n for n in range(len(steps) + 1) if not {-n - 1.0, n + 1.0} <= steps)
    return {-float(n) for n in range(1, size + 1)} if size > 1 or 0 in steps else set()


def _in_order(options: dict[str, str], numeric: bool) -> dict[str, str]:
    if numeric:
        codes = sorted(options, key=lambda code: (cell_number(code) is None, cell_number(code) or 0.0))
    elif any(options.values()):
        codes = list(options)
    else:
        codes = sorted(options)
    return {code: options[code] for code in codes}
