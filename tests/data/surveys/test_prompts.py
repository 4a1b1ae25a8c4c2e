"""Prompts: every option once under every letter, and nothing about the person unless it is asked for."""

from __future__ import annotations

import re
import string
import unicodedata
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cuma.answering.materials import load_survey
from cuma.data.catalog import PACKAGED, load_benchmark
from cuma.data.surveys import LETTERS, Question, letter_orders, question_orders, survey_messages
from cuma.data.surveys.cells import survey_cells
from cuma.data.surveys.prompts import parse_letter, told_who_asks
from cuma.errors import BenchmarkError
from cuma.people.profiles import Profile
from cuma.recipes.load import load_recipe

QUESTION = Question("q", "Which one?", ("red", "green", "blue"), ordinal=False)
ASKED = [{"role": "user", "content": "May one lie?"}]


@pytest.mark.parametrize("n_options", range(2, len(LETTERS) + 1))
def test_orders_show_every_option_once_at_every_position(n_options: int) -> None:
    orders = letter_orders(n_options)
    assert orders[0] == tuple(range(n_options))
    assert len(orders) == n_options
    for line in [*orders, *zip(*orders, strict=True)]:
        assert sorted(line) == list(range(n_options))


@pytest.mark.parametrize(
    ("options", "ordinal", "shown", "orders"),
    [
        (5, True, "natural", ((0, 1, 2, 3, 4), (4, 3, 2, 1, 0))),
        (2, True, "natural", ((0, 1), (1, 0))),
        (3, False, "natural", letter_orders(3)),
        (4, True, "rotations", letter_orders(4)),
        (4, True, "fixed", ((0, 1, 2, 3),)),
        (3, False, "fixed", ((0, 1, 2),)),
    ],
)
def test_options_are_shown_in_the_orders_that_are_asked_for(
    options: int, ordinal: bool, shown: Any, orders: tuple[tuple[int, ...], ...]
) -> None:
    question = Question("q", "How much?", tuple("abcdefg"[:options]), ordinal, option_orders=shown)
    assert question_orders(question) == orders


def test_a_survey_shows_its_options_as_the_recipe_says() -> None:
    natural = load_recipe("quickstart/wvs/cuma", ("data.option_orders=natural",))
    survey, _ = load_survey(natural)
    assert all(len(question_orders(question)) == 2 for question in survey.questions if question.ordinal)
    rotated, _ = load_survey(load_recipe("quickstart/wvs/cuma"))
    cells = [len(survey_cells(one, "train", ["seen"], profile_in_prompt=False)) for one in (survey, rotated)]
    assert cells[0] < cells[1]


@pytest.mark.parametrize("n_options", [0, 1, len(LETTERS) + 1])
def test_a_question_needs_a_letter_for_every_option(n_options: int) -> None:
    with pytest.raises(BenchmarkError, match=f"{n_options} options"):
        letter_orders(n_options)


def test_letters_stand_before_the_options_in_the_given_order() -> None:
    system, user = survey_messages(QUESTION, (2, 0, 1))
    assert user["content"].splitlines()[:4] == ["Which one?", "A. blue", "B. red", "C. green"]
    assert [system["role"], user["role"]] == ["system", "user"]


@pytest.mark.parametrize("order", [(0, 1), (0, 1, 1), (1, 2, 3)])
def test_an_order_that_is_no_permutation_is_refused(order: tuple[int, ...]) -> None:
    with pytest.raises(BenchmarkError, match="not a permutation"):
        survey_messages(QUESTION, order)


@pytest.mark.parametrize(
    ("persona", "system"),
    [
        ("A man living in Peru", "You are a man living in Peru."),
        ("An 80-year-old man", "You are an 80-year-old man."),
        ("A man. Sings.", "You are a man. Sings."),
        ("Lives in Peru", "Answer as this person. Lives in Peru"),
    ],
)
def test_a_persona_is_the_system_message_and_leaves_the_question_alone(persona: str, system: str) -> None:
    order = letter_orders(3)[1]
    messages = survey_messages(QUESTION, order, persona)
    assert messages[0]["content"] == system
    assert messages[1:] == survey_messages(QUESTION, order)[1:]


def test_no_persona_still_sets_the_system_message() -> None:
    # SmolLM2's chat template would otherwise introduce itself.
    order = letter_orders(3)[0]
    assert survey_messages(QUESTION, order, "") == survey_messages(QUESTION, order, None)
    assert survey_messages(QUESTION, order)[0]["content"]


@pytest.mark.parametrize("name", PACKAGED)
def test_every_benchmark_can_be_asked_briefly(name: str) -> None:
    for question in load_benchmark(name).questions:
        for order in letter_orders(len(question.options)):
            messages = survey_messages(question, order)
            assert sum(len(message["content"].split()) for message in messages) <= 60


def test_a_persona_is_added_once_and_only_where_something_is_known() -> None:
    person = Profile(country="Peru")
    told = told_who_asks(ASKED, person.sentence)
    assert told[0] == {"role": "system", "content": "You are a person living in Peru."}
    assert told_who_asks(told, Profile(country="Kenya").sentence) == told
    assert told_who_asks(ASKED, "") == ASKED


def test_the_system_message_that_names_nobody_gives_way_to_a_persona() -> None:
    asked = survey_messages(Question("q", "Which?", ("red", "green"), ordinal=False), (0, 1))
    person = Profile(country="Peru")
    assert told_who_asks(asked, person.sentence) == [*told_who_asks([], person.sentence), *asked[1:]]
    assert told_who_asks(asked, "") == asked


# ---- replies --------------------------------------------------------------------------------------------------------

FORMS = """
X|(X)|X.|X)|X:|X!|[X]|{X}|<X>|"X"|“X”|'X'|`X`|*X*|**X**|**X.**|__X__| X |- X|> X|X\\n|\\n\\nX\\n|X<\xa6im_end\xa6>
x|(x)|x.|x)|**x**
X. No|X) No|(X) No|X: No|X; no|X (No)|X (No).|**X.** No|**X. No**|**X**: No|X\\nBecause I think so|X. I cannot say more
X\\n\\nA person like me would.|X because it is right|X is my answer|X, … no
Answer: X|answer: x|ANSWER: X.|Answer: **X**|**Answer:** X|**Answer: X**|Answer - X|Answer:\\nX|Final answer: (X)
My answer: X. No
The answer is X|The answer is X.|The correct answer is (X).|My answer would be X.|Option X|option x.|Choice: X|Letter X
I choose X|I would say X.|I'd say X|I’d go with X.|I'll pick (X)|I think X|I would choose option X.|I have to answer X
$\\boxed{X}$|\\boxed{\\text{X}}|<answer>X</answer>|{"answer": "X"}|<think>\\nA? I cannot say.\\n</think>\\n\\nX
"""
"""How a model gives the letter X; "|" stands between the forms, and "\\n" for a line break."""

NO_ANSWERS = [
    "", "Because", "Aye", "1", "7", "É", "E\u0301", "I\u200bcannot", "None", "Not B", "B+", "C#", "5% A", "b2",
    "An answer", "I cannot answer that.", "I'm sorry, but I have no opinions.", "I’m not able to", "I would say 7",
    "I don't know", "I am", "I\u00a0cannot", "I've none", "I'd rather not", "I, as a model, have none", "I - well",
    "I — like most — would", "I...", "I… do not know", "I (as a model) cannot", "**I** cannot answer",
    "*I* don't know", '"I cannot"', "(I cannot answer)", "A person like me would rather not say.", "A good question!",
    "A typical person", "A (typical) person would", "A... hm", "*A* person", '"A" person', "a lot", "A lot of things",
    "As I see it", "A-level", "A.I. has none", "B.A.", "A's", "e.g. this", "i.e. that", "C'est la vie", "D'accord",
    "J'ai", "E' vero", "E penso di no", "I.D. please", "A or B", "A and B", "A, B", "A, B or C", "A/B", "A & B",
    "(A) or (B)", "(A), (B)", "Either A or B", "A: B", "a, b", "The answer is a matter of taste",
    "The answer is A person", "Answer: I cannot answer", "Answer: A person like me", "Option A person",
    "I choose not to answer", "I think I cannot", "I say A lot", "I think a person", "Answer:", "Option",
    "<think>\nB", "O, well", "O - well", "O Brother", "o que penso", "y también", "X-ray", "T-shirt", "U.S.", "U.S.A.",
    "S'il vous plaît", "L’option", "N/A", "n/a", "Y'all", "K-pop", "Y a-t-il", "P or Q", "M, N", "R and B", "W/o",
    "P.S. no", "V for one", "U are right", "O'Brien", "é", "№", "Ω", "Option Q person", "I would say S curve",
]  # fmt: skip


def forms() -> list[str]:
    written = FORMS.strip().replace("\n", "|").replace("\\n", "\n").split("|")
    return [form.replace("\xa6", "|") for form in written]


def filled(form: str, letter: str) -> str:
    """The form with the letter in the place of X, and in lower case in that of x, wherever those stand alone."""
    words = re.split(r"(?<![A-Za-z])([Xx])(?![A-Za-z])", form)
    return "".join({"X": letter, "x": letter.lower()}.get(word, word) for word in words)


@pytest.mark.parametrize("form", forms())
def test_a_letter_counts_in_every_form_and_every_letter_alike(form: str) -> None:
    letters = LETTERS.translate(dict.fromkeys(map(ord, "IO"))) if form == "X, … no" else LETTERS
    for options in (10, 11, len(LETTERS)):
        shown = [letter for letter in letters if LETTERS.index(letter) < options]
        replies = [parse_letter(filled(form, letter), options) for letter in shown]
        assert replies == [LETTERS.index(letter) for letter in shown]


@pytest.mark.parametrize("reply", NO_ANSWERS)
def test_a_word_is_no_letter_and_two_letters_are_no_answer(reply: str) -> None:
    assert [parse_letter(reply, options) for options in range(2, len(LETTERS) + 1)] == [None] * 25


@pytest.mark.parametrize(
    ("reply", "options", "place"),
    [("Answer: K", 10, None), ("Answer: K", 11, 10), ("Z", 25, None), ("Z", 26, 25), ("A, K", 10, 0),
     ("A, K", 11, None),
     ("A: Z", 9, 0), ("A: Z", 25, None), ("o", 15, 14), ("y", 26, 24), ("N.", 26, 13)],
)  # fmt: skip
def test_a_letter_is_one_where_so_many_options_were_shown(reply: str, options: int, place: int | None) -> None:
    assert parse_letter(reply, options) == place


def test_letters_that_were_not_shown_are_no_answers() -> None:
    assert [parse_letter(letter, 3) for letter in "ABCDI"] == [0, 1, 2, None, None]


words = st.lists(st.text(string.ascii_lowercase, min_size=2, max_size=8), min_size=1, max_size=6)


@given(st.sampled_from(LETTERS), words, st.sampled_from(["", ".", "!", "?"]))
def test_a_letter_that_begins_a_sentence_is_a_word(letter: str, rest: list[str], end: str) -> None:
    assume(rest[0] not in ("is", "because", "since"))
    assert parse_letter(" ".join([letter, *rest]) + end, len(LETTERS)) is None


@given(st.text() | st.text("ABCIabi .,()*'-\n:", max_size=12), st.integers(2, len(LETTERS)))
def test_any_reply_is_one_shown_letter_or_none_whatever_space_is_around_it(reply: str, options: int) -> None:
    letter = parse_letter(reply, options)
    assert letter is None or 0 <= letter < options
    assert parse_letter(f"\n {reply} \n", options) == letter
    if letter is not None:
        assert LETTERS[letter] in unicodedata.normalize("NFKC", reply).upper()
