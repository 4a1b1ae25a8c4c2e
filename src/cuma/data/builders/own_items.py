"""The questions of somebody's file, each decided once over all its rows: words, order of options, scale, and codes.

What training or evaluating would refuse is left out here, question by question and by name; the others stay.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from cuma.data.builders.answer_codes import UNDECIDED, Reading, reading_of
from cuma.data.builders.base import Ledger
from cuma.data.builders.cell_text import cell_truth
from cuma.data.builders.own_rows import RawRow
from cuma.data.builders.scales import is_ordinal
from cuma.data.surveys.prompts import LETTERS
from cuma.data.surveys.survey import OWN_COLUMNS
from cuma.people.absence import is_absent
from cuma.people.code_labels import column_labels
from cuma.people.profiles import CODED

OTHER_WAY = "question in other words or with other options than most of its rows: give it a question_id of its own"
TOO_MANY = f"question with more than {len(LETTERS)} options, which a letter each cannot name"
RESERVED = f"question_id is {', '.join(OWN_COLUMNS[:-1])} or {OWN_COLUMNS[-1]}: choose another"
NO_ORDER = "question on a scale whose options stand in several orders: give them in one"
SEVERAL_CODES = "question with several answer_codes"
ROW_ORDERS = "answer is a number, and the question's options stand in several orders: say --answer-codes"


@dataclass
class FileItem:
    """A question, as it will be asked."""

    id: str
    text: str
    options: tuple[str, ...]
    """As they stand in the file."""
    labels: tuple[str, ...]
    """The same without codes in front of their labels, which a model does not need: "1. Always" is "Always"."""
    ordinal: bool
    ordinal_guessed: bool
    reading: Reading | None = None
    """What its answers are; None for shares."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Why rows of it cannot be used → how many."""


def settle_items(rows: list[RawRow], codes: str, ledger: Ledger) -> tuple[list[RawRow], list[FileItem]]:
    """Every row with its question as it will be asked, less the rows that cannot be used; and the questions.

    rows: of the task survey or distribution. codes: what numbers are where the rows do not say it.
    """
    by_id: dict[str, list[RawRow]] = {}
    for row in rows:
        by_id.setdefault(row.values["question_id"], []).append(row)
    usable, items = [], []
    for its in by_id.values():
        item, same = _usual_way(its)
        items.append(item)
        usable += _usable(item, same, codes, ledger)
        for reason, times in item.left_out.items():
            ledger.drop(reason, times)
    return sorted(usable, key=lambda row: row.number), items


def _usual_way(rows: list[RawRow]) -> tuple[FileItem, list[RawRow]]:
    """The question in the words, the options and the order that most of its rows have; and the rows that ask it so."""
    ways: dict[tuple[str, tuple[str, ...]], list[RawRow]] = {}
    for row in rows:
        ways.setdefault((row.values["question"], tuple(sorted(row.values["options"]))), []).append(row)
    way = max(ways, key=lambda way: (len(ways[way]), way))
    orders = Counter(tuple(row.values["options"]) for row in ways[way])
    options = max(orders, key=lambda order: (len(orders) > 1 and is_ordinal(_labels(order)), orders[order], order))
    labels = _labels(options)
    flags = Counter(flag for row in ways[way] if (flag := row.values["ordinal"]) is not None)
    ordinal = max(flags, key=lambda flag: (flags[flag], flag)) if flags else is_ordinal(labels)
    item = FileItem(rows[0].values["question_id"], way[0], options, labels, ordinal, not flags)
    item.left_out[OTHER_WAY] += len(rows) - len(ways[way])
    return item, ways[way]


def _labels(options: tuple[str, ...]) -> tuple[str, ...]:
    bare = column_labels(options)
    labels = tuple(bare.get(option, option) for option in options)
    return labels if len(set(labels)) == len(options) else options


def _usable(item: FileItem, rows: list[RawRow], codes: str, ledger: Ledger) -> list[RawRow]:
    """The rows that say something of the question, rewritten; the others are counted in the item."""
    refusal = _refusal(item, rows)
    if refusal:
        item.left_out[refusal] += len(rows)
        return []
    turned = sum(tuple(row.values["options"]) != item.options for row in rows)
    ledger.note("options in another order than in most rows of the question, put in that order", turned)
    if item.ordinal_guessed and len(item.options) > 2:
        kind = "a scale" if item.ordinal else "names without order"
        ledger.note(f"question: `ordinal` left out, its options taken for {kind}")
    ledger.note(f"question: options with a {CODED}", item.labels != item.options)
    ledger.note("question: its rows differ in `ordinal`, most of them count", _differ(rows, "ordinal"))
    if "answer" not in rows[0].values:
        return [_with(row, item, distribution=_shares(row, item)) for row in rows]
    given = {row.values["answer_codes"] for row in rows} - {""}
    item.reading = reading_of({row.values["answer"] for row in rows}, item.options, *(given or {codes}))
    _note(item, item.reading, ledger)
    usable = []
    for row in rows:
        place, reason = _place(row, item, item.reading, turned > 0)
        if reason:
            item.left_out[reason] += 1
        else:
            usable.append(_with(row, item, answer=place))
    return usable


def _refusal(item: FileItem, rows: list[RawRow]) -> str:
    """Why the whole question cannot be asked; "" if it can."""
    if len(item.options) > len(LETTERS):
        return TOO_MANY
    if item.id in OWN_COLUMNS:
        return RESERVED
    if _differ(rows, "answer_codes"):
        return SEVERAL_CODES
    orders = {tuple(row.values["options"]) for row in rows}
    if item.ordinal and not is_ordinal(item.labels) and orders - {item.options, item.options[::-1]}:
        return NO_ORDER
    return ""


def _differ(rows: list[RawRow], column: str) -> bool:
    return len({row.values[column] for row in rows} - {"", None}) > 1


def _place(row: RawRow, item: FileItem, reading: Reading, turned: bool) -> tuple[int, str]:
    """The answer as an index into the item's options, or why there is none."""
    answer = row.values["answer"]
    if answer in reading.named:
        return reading.named[answer], ""
    if answer in reading.coded:
        if not turned:
            return reading.coded[answer], ""
        if reading.guessed:
            return -1, ROW_ORDERS
        return item.options.index(row.values["options"][reading.coded[answer]]), ""
    if answer in reading.undecided:
        return -1, UNDECIDED
    return -1, "answer is missing" if is_absent(answer) else "answer is none of the options"


def _with(row: RawRow, item: FileItem, **values: object) -> RawRow:
    kept = {name: row.values[name] for name in row.values if name not in ("answer_codes", "answer", "distribution")}
    return replace(row, values={**kept, "options": list(item.labels), "ordinal": item.ordinal, **values})


def _shares(row: RawRow, item: FileItem) -> list[float]:
    share_of = dict(zip(row.values["options"], row.values["distribution"], strict=True))
    return [share_of[option] for option in item.options]


def _note(item: FileItem, reading: Reading, ledger: Ledger) -> None:
    """Say what was guessed of a question's answers."""
    if any(
        item.options[at].casefold() != text.casefold()
        for text, at in reading.named.items()
        if cell_truth(text) is not None
    ):
        ledger.note("question: true and false read as the options Yes and No")
    if reading.guessed and reading.coded:
        first = "0" if reading.codes == "from_zero" else "1"
        ledger.note(f"question: numbers read as codes of the options, {first} the first")
        if first == "0" and len(item.options) == 2 and cell_truth(item.options[0]):
            ledger.note("question: 0 read as its first option, which is Yes or true: --answer-codes says otherwise")
