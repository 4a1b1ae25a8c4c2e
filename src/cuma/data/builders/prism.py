"""PRISM: conversations that people of 75 countries led with several models at once, scoring every reply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from cuma.data.builders.base import Built, Ledger, Options
from cuma.data.builders.preferences import Conversation, Turn, clean, identifier, place, render
from cuma.data.builders.reading import existing, json_rows
from cuma.errors import BenchmarkError
from cuma.people.profiles import Profile

LICENCE = (
    "Prompts CC-BY-4.0, model replies CC-BY-NC-4.0: not for commercial use. "
    "Trying to find out who the people are is forbidden."
)
CITATION = (
    "Kirk et al. 2024: The PRISM Alignment Dataset: What Participatory, Representative and Individualised Human "
    "Feedback Reveals About the Subjective and Multicultural Alignment of Large Language Models. NeurIPS 2024 Datasets "
    "and Benchmarks. arXiv:2404.16019"
)
FIELDS: dict[str, tuple[str, ...]] = {
    "age": ("age",),
    "sex": ("gender",),
    "ethnicity": ("ethnicity.categorised", "ethnicity.simplified"),
    "religion": ("religion.categorised", "religion.simplified"),
    "country": ("location.reside_country",),
    "birth_country": ("location.birth_country",),
    "education": ("education",),
    "employment": ("employment_status",),
    "marital": ("marital_status",),
}
"""Profile field → where the survey has it, best first. `categorised` keeps apart what `simplified` throws together
(Buddhists, Hindus and others). What people wrote themselves (`self_described`, `self_description`, `system_string`,
`stated_prefs`) stays out: it can give them away."""
FILES = ("survey.jsonl", "conversations.jsonl")


def build(source: Path, options: Options) -> Built:
    """Triples and conversations, from the folder with survey.jsonl and conversations.jsonl.

    Every turn gives a triple for each of its rejected replies (up to three in the first turn, one later), with the
    chosen replies as history. A turn without a winner ends its conversation: what was said next has no history.

    Raises:
        BenchmarkError: a file is missing or not in the documented form, or nothing in them can be used.
    """
    survey, dialogues = _files(existing(source))
    ledger = Ledger()
    answered = _people(survey, ledger)
    conversations = _conversations(dialogues, ledger)
    people = {one.person: answered.get(one.person, Profile()) for one in conversations}
    ledger.note("person without a survey row, kept with an empty profile", len(people.keys() - answered.keys()))
    placed = place(conversations, people, options, ledger)
    met = {one.person for part in placed.values() for one in part} & answered.keys()
    ledger.keep(len(met))
    ledger.drop("survey row of a person without a usable conversation", len(answered.keys() - people.keys()))
    ledger.drop("survey row of a person whose conversations are left out", len(answered.keys() & people.keys() - met))
    return Built(
        name="prism",
        tasks={"dpo": render("dpo", placed, people, ledger), "sft": render("sft", placed, people, ledger)},
        ledger=ledger,
        sources=(survey, dialogues),
        licence=LICENCE,
        citation=CITATION,
        facts={
            "conversations": sum(map(len, placed.values())),
            "row_is": "a line of survey.jsonl (a person) or of conversations.jsonl (a conversation)",
        },
    )


def _files(source: Path) -> tuple[Path, Path]:
    if not source.is_dir():
        raise BenchmarkError(f"{source} is a file. Give --source the folder that holds {' and '.join(FILES)}.")
    missing = [name for name in FILES if not (source / name).is_file()]
    if missing:
        raise BenchmarkError(f"{source} lacks {' and '.join(missing)}. Give --source the folder that holds both files.")
    return source / FILES[0], source / FILES[1]


def _people(survey: Path, ledger: Ledger) -> dict[str, Profile]:
    people: dict[str, Profile] = {}
    for row in tqdm(json_rows(survey, ledger), desc="Reading people", unit="row", disable=None):
        person = identifier(row.get("user_id"), ledger)
        if person is None:
            ledger.drop("survey row without a user_id")
        elif person in people:
            ledger.drop("survey row of a person seen before")
        else:
            people[person] = _profile(row)
            ledger.note("person who took part in the survey only", int(row.get("survey_only") is True))
            ledger.note("person of whom no demographics are known", int(not people[person]))
    if not people:
        raise BenchmarkError(f"{survey} has no row with a user_id. Is this PRISM's survey.jsonl?")
    return people


def _profile(row: Mapping[str, Any]) -> Profile:
    candidates = {name: [_at(row, place) for place in places] for name, places in FIELDS.items()}
    return Profile(**{name: _best(name, texts) for name, texts in candidates.items()})


def _at(row: Mapping[str, Any], place: str) -> str | None:
    """`religion.categorised` → row["religion"]["categorised"], if it is text."""
    outer, _, inner = place.partition(".")
    value = row.get(outer)
    if inner:
        value = value.get(inner) if isinstance(value, Mapping) else None
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else None


def _best(name: str, texts: list[str | None]) -> str | None:
    """The first that says something, as `Profile` understands it."""
    return next((text for text in texts if Profile(**{name: text})), None)


# --- conversations ---------------------------------------------------------------------------------------------------


def _conversations(file: Path, ledger: Ledger) -> list[Conversation]:
    conversations = []
    names: set[str] = set()
    for row in tqdm(json_rows(file, ledger), desc="Reading conversations", unit="row", disable=None):
        name, person = identifier(row.get("conversation_id"), ledger), identifier(row.get("user_id"), ledger)
        if name is None or person is None:
            ledger.drop("conversation without an id, or without its user's")
            continue
        if name in names:
            ledger.drop("conversation id seen before")
            continue
        names.add(name)
        turns = _turns(row.get("conversation_history"), ledger)
        if turns:
            conversations.append(Conversation(name, person, turns))
        else:
            ledger.drop("conversation without a usable first turn")
    return conversations


@dataclass(frozen=True, repr=False)
class _Reply:
    text: str
    chosen: bool
    score: float


def _turns(entries: Any, ledger: Ledger) -> tuple[Turn, ...]:
    """The turns up to the first that cannot be used."""
    said: dict[int, str] = {}
    replies: dict[int, list[_Reply]] = {}
    for entry in entries if isinstance(entries, list) else []:
        number = entry.get("turn") if isinstance(entry, dict) else None
        if not isinstance(number, int) or isinstance(number, bool) or entry.get("role") not in ("user", "model"):
            ledger.drop("message: not in the documented form")
            continue
        replies.setdefault(number, [])
        text = clean(entry.get("content"), ledger)
        if text is None:
            ledger.drop(f"{'reply' if entry['role'] == 'model' else 'prompt'}: empty, or EMPTY STRING")
        elif entry["role"] == "user":
            said.setdefault(number, text)
        else:
            score = entry.get("score")
            is_number = isinstance(score, int | float) and not isinstance(score, bool) and score == score
            replies[number].append(_Reply(text, entry.get("if_chosen") is True, score if is_number else -1))
    turns: list[Turn] = []
    for number in range(len(replies)):
        turn = _turn(said.get(number), replies.get(number), ledger)
        if not isinstance(turn, Turn):
            ledger.drop(f"turn: {turn}")
            ledger.drop("turn: after a gap in the conversation", len(replies) - number - 1)
            break
        turns.append(turn)
    return tuple(turns)


def _turn(said: str | None, replies: list[_Reply] | None, ledger: Ledger) -> Turn | str:
    """The turn, or why it cannot be used."""
    if replies is None:
        return "its number is not the next"
    if said is None:
        return "no prompt"
    winners = [index for index, reply in enumerate(replies) if reply.chosen]
    if not winners:
        return "no winner"
    best = max(replies[index].score for index in winners)
    highest = [index for index in winners if replies[index].score == best]
    if len(highest) > 1:
        return "two winners with the same score"
    if len(winners) > 1:
        ledger.note("turn with two winners, the one with the higher score taken")
    return Turn(said, tuple(reply.text for reply in replies), highest[0])
