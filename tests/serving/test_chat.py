"""The terminal chat: replies, people, comparisons, and mistakes, as lines that somebody types."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from cuma.answering.answerer import Answerer
from cuma.people.profiles import Profile
from cuma.serving.chat import Chat, spoken
from cuma.serving.engine import Engine
from cuma.serving.sampling import Sampling
from helpers.served import THAI, idle, tiny_answerer


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Answerer, Engine]]:
    answerer = tiny_answerer()
    with Engine([answerer]) as engine:
        yield answerer, engine


def talk(running: tuple[Answerer, Engine], *lines: str, **options: object) -> tuple[Chat, str]:
    answerer, engine = running
    screen = Console(file=io.StringIO(), width=100, force_terminal=False)
    chat = Chat(engine, answerer, screen, max_tokens=6, sampling=Sampling(temperature=0), **options)  # type: ignore[arg-type]
    typed = iter(lines)

    def read() -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    chat.run(read)
    assert idle(engine)
    return chat, screen.file.getvalue()  # type: ignore[attr-defined]


def test_a_conversation_goes_on_and_is_one_persons(running: tuple[Answerer, Engine]) -> None:
    chat, text = talk(running, "Hello?", "And then?", profile=Profile(**THAI))
    assert [message["role"] for message in chat.messages] == ["user", "assistant"] * 2
    assert chat.messages[1]["content"] in text
    assert "experts" in text
    other, _ = talk(running, "Hello?")
    assert other.messages[1]["content"] != chat.messages[1]["content"]


def test_a_new_person_begins_a_new_conversation(running: tuple[Answerer, Engine]) -> None:
    chat, text = talk(running, "Hello?", '/profile country="South Africa" age=30')
    assert chat.messages == []
    assert chat.profile == Profile(country="South Africa", age=30)
    assert "A 30-year-old person living in South Africa" in text
    chat, _ = talk(running, "/profile A nurse from Peru")
    assert chat.profile == Profile(description="A nurse from Peru")


def test_people_are_compared_side_by_side(running: tuple[Answerer, Engine]) -> None:
    chat, text = talk(running, "Hello?", "/compare country=Japan | country=Peru age=70", "/compare")
    assert chat.people == [Profile(country="Japan"), Profile(country="Peru", age=70)]
    line = next(line for line in text.splitlines() if "Japan" in line)
    assert "Peru" in line, "side by side"
    assert text.count("living in Japan") == 2


def test_a_survey_question_gets_bars(running: tuple[Answerer, Engine]) -> None:
    _, text = talk(running, "/opinions Should it be allowed? | Yes | No | Perhaps")
    shares = [int(line.split()[-1].removesuffix("%")) for line in text.splitlines() if line.strip().endswith("%")][:3]
    assert sum(shares) == pytest.approx(100, abs=2)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/profile gender=Male", "Did you mean 'sex'"),
        ("/compare country=Peru", "Ask something first"),
        ("/compare", "Name the people"),
        ("/opinions Only a question", "2 to 26 options"),
        ("/nonsense", "/profile, /compare"),
        ("/help", "/opinions"),
        ("x " * 600, "/new"),
    ],
)
def test_mistakes_are_told_and_the_chat_goes_on(line: str, words: str, running: tuple[Answerer, Engine]) -> None:
    chat, text = talk(running, line, "Hello?")
    assert words in " ".join(text.split())
    assert len(chat.messages) == 2


def test_who_spoke_is_said_in_shares_over_layers() -> None:
    assert spoken({"a": [0.5, 0.5, 0, 0], "b": [0, 1, 0, 0]}) == "experts 2 (75%), 1 (25%), 3 (0%)"
    assert spoken(None) == ""


def test_ctrl_c_ends_the_reply_and_not_the_chat(
    running: tuple[Answerer, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Chat._replies

    def interrupted(self: Chat, *arguments: object) -> object:
        for event in shown(self, *arguments):  # type: ignore[arg-type]
            yield event
            monkeypatch.undo()
            raise KeyboardInterrupt

    monkeypatch.setattr(Chat, "_replies", interrupted)
    chat, text = talk(running, "Hello?", "Again?")
    assert "Stopped." in text
    assert [message["content"] for message in chat.messages][:1] == ["Again?"]
