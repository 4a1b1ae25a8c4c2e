"""Community Alignment: four replies a turn, one of them preferred, by people of five countries (CSV or parquet)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from cuma.data.builders.any_file import as_texts, is_parquet, parquet_rows
from cuma.data.builders.base import Built, Ledger, Options, Task
from cuma.data.builders.delimited import csv_rows
from cuma.data.builders.preferences import Conversation, Turn, clean, identifier, place, render
from cuma.data.builders.reading import existing
from cuma.errors import BenchmarkError
from cuma.people.profiles import Profile

LICENCE = "CC-BY-4.0 (Community Alignment, Meta)"
CITATION = (
    "Zhang, Milli et al. 2025: Cultivating Pluralism in Algorithmic Monoculture: The Community Alignment Dataset. "
    "arXiv:2507.09650"
)
FIELDS = {
    "age": "annotator_age",
    "sex": "annotator_gender",
    "ethnicity": "annotator_ethnicity",
    "country": "annotator_country",
    "language": "assigned_lang",
    "education": "annotator_education_level",
    "party": "annotator_political",
}
"""Profile field → column. The assigned language is the one the person wrote in."""
LANGUAGES = {"en": "English", "fr": "French", "it": "Italian", "hi": "Hindi", "pt": "Portuguese"}
TURNS = ("first", "second", "third", "fourth")
REPLIES = ("response_a", "response_b", "response_c", "response_d")
REQUIRED = (
    "conversation_id",
    "annotator_id",
    "first_turn_prompt",
    *(f"first_turn_{reply}" for reply in REPLIES),
    "first_turn_preferred_response",
)
_TASKS: tuple[Task, ...] = ("dpo", "sft", "discrimination")
_END = re.compile(r"(\s*<\|end_of_text\|>)+\s*\Z")
_SMALL = frozenset({"of", "and", "the", "da", "de", "do", "du"})
_COUNTRIES = {"usa": "United States", "us": "United States", "uk": "United Kingdom", "uae": "United Arab Emirates"}
_HINT = "Community Alignment is one file, CSV or parquet; give --source that file."


def build(source: Path, options: Options) -> Built:
    """Triples, conversations and the four-way choice, from the file or a folder that holds only it.

    Every turn gives a triple for each of its up to three rejected replies, with the chosen replies as history. A turn
    without a usable preference ends its conversation, as what was said next cannot be told.

    Raises:
        BenchmarkError: the file is not in the documented form, or nothing in it can be used.
    """
    file = _file(existing(source))
    ledger = Ledger()
    people: dict[str, Profile] = {}
    conversations: list[Conversation] = []
    names: set[str] = set()
    for row in tqdm(_rows(file, ledger), desc="Reading conversations", unit="row", disable=None):
        conversation = _conversation(row, names, ledger)
        if conversation is None:
            continue
        _meet(people, conversation.person, _profile(row), ledger)
        conversations.append(conversation)
    placed = place(conversations, {one.person: people[one.person] for one in conversations}, options, ledger)
    ledger.note("person of whom no demographics are known", sum(not any(_own_words(p)) for p in people.values()))
    return Built(
        name="community",
        tasks={task: render(task, placed, people, ledger) for task in _TASKS},
        ledger=ledger,
        sources=(file,),
        licence=LICENCE,
        citation=CITATION,
        facts={"conversations": sum(map(len, placed.values())), "row_is": "a conversation of up to four turns"},
    )


def _file(source: Path) -> Path:
    """The file itself, or the only one in a folder."""
    if not source.is_dir():
        return source
    files = sorted(path for path in source.iterdir() if path.suffix.lower() in (".csv", ".parquet") and path.is_file())
    if len(files) != 1:
        raise BenchmarkError(f"{source} holds {len(files)} files .csv or .parquet; one was expected. {_HINT}")
    return files[0]


def _rows(file: Path, ledger: Ledger) -> Iterator[Mapping[str, Any]]:
    if is_parquet(file):
        return as_texts(parquet_rows(file, REQUIRED, ledger, _HINT), ledger)
    return csv_rows(file, REQUIRED, ledger, _HINT)


def _conversation(row: Mapping[str, Any], names: set[str], ledger: Ledger) -> Conversation | None:
    """The turns up to the first gap; None, and counted, where there is none."""
    name, person = identifier(row["conversation_id"], ledger), identifier(row["annotator_id"], ledger)
    if name is None or person is None:
        ledger.drop("conversation without an id, or without its annotator's")
        return None
    if name in names:
        ledger.drop("conversation id seen before")
        return None
    names.add(name)
    turns: list[Turn] = []
    for number, nth in enumerate(TURNS):
        turn = _turn(row, nth, ledger)
        if not isinstance(turn, Turn):
            later = sum(_text(row.get(f"{n}_turn_prompt"), ledger) is not None for n in TURNS[number + 1 :])
            if turn or later:
                ledger.drop(f"turn: {turn or 'missing between others'}")
                ledger.drop("turn: after a gap in the conversation", later)
            break
        turns.append(turn)
    if not turns:
        ledger.drop("conversation without a usable first turn")
        return None
    return Conversation(name, person, tuple(turns))


def _turn(row: Mapping[str, Any], nth: str, ledger: Ledger) -> Turn | str:
    """The turn, or what it lacks ("" if all of it)."""
    said = _text(row.get(f"{nth}_turn_prompt"), ledger)
    replies = {reply: _text(row.get(f"{nth}_turn_{reply}"), ledger) for reply in REPLIES}
    there = {reply: text for reply, text in replies.items() if text is not None}
    preferred = identifier(row.get(f"{nth}_turn_preferred_response"), ledger)
    if said is None:
        return "no prompt" if there or preferred else ""
    if preferred is None:
        return "no preferred reply"
    if preferred not in replies:
        return "the preferred reply is none of response_a … response_d"
    if preferred not in there:
        return "the preferred reply is empty"
    ledger.note("reply that is empty, passed over", len(replies) - len(there))
    return Turn(said, tuple(there.values()), list(there).index(preferred))


def _text(value: Any, ledger: Ledger) -> str | None:
    text = clean(value, ledger)
    if text is not None and (match := _END.search(text)):
        ledger.note("text that ended in <|end_of_text|>, trimmed")
        text = clean(text[: match.start()], ledger)
    return text


def _profile(row: Mapping[str, Any]) -> Profile:
    values = {name: row.get(column) for name, column in FIELDS.items()}
    known = {name: value for name, value in values.items() if isinstance(value, str)}
    language = known.get("language", "").strip().casefold()
    return Profile(
        **known
        | {"country": proper_name(known.get("country", "")), "language": LANGUAGES.get(language, known.get("language"))}
    )


def proper_name(country: str) -> str:
    """ "united states" → "United States"; a name that has capitals is left as it is."""
    country = " ".join(country.split())
    if country in _COUNTRIES:
        return _COUNTRIES[country]
    if not country.islower():
        return country
    words = [word if word in _SMALL else _capital(word) for word in country.split()]
    return " ".join(words[:1] and [_capital(words[0]), *words[1:]])


def _capital(word: str) -> str:
    return "-".join(part[:1].upper() + part[1:] if not part.startswith("d'") else part for part in word.split("-"))


def _meet(people: dict[str, Profile], person: str, profile: Profile, ledger: Ledger) -> None:
    """A person's first profile that says anything is theirs."""
    known = people.setdefault(person, profile)
    if known == profile:
        return
    if not any(_own_words(known)):
        people[person] = profile
    elif any(_own_words(profile)):
        ledger.note("conversation whose demographics differ from its annotator's first")


def _own_words(profile: Profile) -> list[str]:
    """What a person said of themselves: all but the language they were assigned."""
    return [name for name in profile.fields if name != "language"]
