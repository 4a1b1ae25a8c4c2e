"""How a survey question is put to a chat model: lettered options, and an answer that is one letter.

Short on purpose: on a CPU every prompt token costs, in training and in evaluation.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence
from functools import cache

from cuma.data.surveys.survey import Question
from cuma.errors import BenchmarkError

LETTERS = string.ascii_uppercase
"""What stands before the options and is answered: one token each at the start of an assistant turn, without a space."""

_FEWEST = 10
"""Replies to questions of up to so many options are read alike: a K is no second answer beside "A, K"."""
_LEAD = r"""(?:
    (?:(?:the|my)\s+)? (?:(?:best|chosen|correct|final|right)\s+)?
        (?:answer|choice|letter|option|response) (?:\s+(?:is|would\s+be))?
    | I (?:\s+(?:would|will|have\s+to)|['’](?:d|ll))? \s+ (?:answer|choose|go\s+with|pick|say|select|think)
    | boxed | text
    ) (?![^\W_]) [\W_]*"""
_WORD = r"""(?: [^\W_] | ['’-][^\W_] | \.[^\W_]\b | [+#%] | (?<=[IO])[^\S\n]*[,–—-] )"""
_SECOND = r"""(?:
    [)\]}]* \s* (?:[,;:–-]|and\b|or\b) \s* (?:(?:and|or)\s)? ["'“‘(*]*
    [EITHER] (?:[^\w\s'’-]|\s*$|\s+(?:and|or)\b) )"""
_END = r"""(?:
    \s*$ | [^\S\n]* (?: [\n)\]}>:;!=<$,–—] | -\s | \.(?!\.) | (?:is|because|since)\b | \([^()\n]*\)\W*(?:$|\n) ))"""
_ANSWER = rf"""(?:<think>.*?</think>)? [\W_]* (?:{_LEAD})*
    (?-i:([EITHER])) (?!{_WORD}) ["'”’»*_`~]* (?!{_SECOND}) {_END}"""
"""A reply that is one letter, announced, decorated or followed by more: "B", "(b)", "**B.** No", "The answer is B".

A word is no letter: "I cannot say", "A person like me", "I, as a model", "O, well", "C'est". Nor are two of them: "A or
B". What may follow is the same for all letters (but that "I, …" and "O - …" are words), so that no option is favoured.
A reply that is a chat's abbreviation ("K", "N", "U", "Y") is the letter, where so many options were shown.
"""

Message = dict[str, str]
"""{"role": "system" | "user" | "assistant", "content": text}"""

NO_PERSONA = "Answer the survey question."
"""The system message where nothing is said about the person. Without one, SmolLM2's chat template puts in its own."""
_INSTRUCTION = "Answer with one letter."


def letter_orders(n_options: int) -> tuple[tuple[int, ...], ...]:
    """The cyclic rotations of the options; `order[i]` is the option shown under letter i.

    Every option stands once at every position, so whoever averages over the orders (or trains on all of them) cannot
    gain by preferring a letter.
    """
    if not 2 <= n_options <= len(LETTERS):
        raise BenchmarkError(f"A question has {n_options} options, expected 2 to {len(LETTERS)}: one letter each.")
    return tuple(tuple((start + place) % n_options for place in range(n_options)) for start in range(n_options))


def question_orders(question: Question) -> tuple[tuple[int, ...], ...]:
    """The orders in which a question is asked, as its `option_orders` says.

    "rotations": `letter_orders`. "natural": a scale in its own order and reversed, for a rotated one ("Warm, Very warm,
    Very cold, …") is in nobody's questionnaire; names, which have no order of their own, in all rotations still.
    Reversing too puts every option as often on one side of the middle as on the other. "fixed": once, as written.
    """
    orders = letter_orders(len(question.options))
    if question.option_orders == "fixed":
        return orders[:1]
    if question.option_orders == "rotations" or not question.ordinal or len(question.options) == 2:
        return orders
    return orders[0], orders[0][::-1]


def survey_messages(question: Question, order: Sequence[int], persona: str | None = None) -> list[Message]:
    """The conversation up to the answer; the assistant then says just a letter of `LETTERS`.

    order: a permutation of the options' indices, as from `question_orders`.
    persona: a profile's sentence, which becomes the system message; with None or "" the prompt does not say who asks.
    """
    if sorted(order) != list(range(len(question.options))):
        raise BenchmarkError(
            f"{question.id}: the order {list(order)} is not a permutation of its {len(question.options)} options. "
            "Take one from question_orders."
        )
    shown = [f"{LETTERS[place]}. {question.options[option]}" for place, option in enumerate(order)]
    return [
        {"role": "system", "content": as_persona(persona) if persona else NO_PERSONA},
        {"role": "user", "content": "\n".join([question.text, *shown, _INSTRUCTION])},
    ]


def as_persona(sentence: str) -> str:
    """The sentence turned to the model: "You are a White woman …". A ready sentence of another form is kept whole."""
    for article in ("A ", "An "):
        if sentence.startswith(article):
            return f"You are {article.lower()}{sentence.removeprefix(article).rstrip('.')}."
    return f"Answer as this person. {sentence}"


def told_who_asks(messages: Sequence[Message], sentence: str) -> list[Message]:
    """A conversation whose system message says who asks. `NO_PERSONA` gives way to it; others are kept.

    sentence: the profile's; "" for nobody in particular.
    """
    if not sentence:
        return list(messages)
    if messages and messages[0]["role"] == "system":
        if messages[0]["content"] != NO_PERSONA:
            return list(messages)
        messages = messages[1:]
    return [{"role": "system", "content": as_persona(sentence)}, *messages]


def parse_letter(reply: str, options: int) -> int | None:
    """The index of the one letter that a reply gives; None if it gives none, or none of the `options` shown."""
    match = _answer(_FEWEST if options <= _FEWEST else len(LETTERS)).match(unicodedata.normalize("NFKC", reply).strip())
    letter = LETTERS.index(match[1].upper()) if match else options
    return letter if letter < options else None


@cache
def _answer(letters: int) -> re.Pattern[str]:
    """`_ANSWER` for the first letters of the alphabet."""
    either = LETTERS[:letters] + LETTERS[:letters].lower()
    return re.compile(_ANSWER.replace("EITHER", either), re.VERBOSE | re.IGNORECASE | re.DOTALL)
