"""What tokens spell: bytes that make up the text, whatever the vocabulary."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cuma.serving.text import Writer, spelling_of
from helpers.scripted import sentencepiece
from helpers.served import tokenizer

TEXTS = ["one two, true", "ok 🫠 龜 ✓", "  two  spaces\n\nand lines", "\u2028", "a\ufffdb", "true\x00"]
VOCABULARIES = {"byte level": tokenizer, "as Llama's": sentencepiece, "as Gemma's": lambda: sentencepiece(False)}


def written(vocabulary: Any, ids: list[int], **options: Any) -> tuple[str, bytes]:
    """The shown text, and the bytes of its tokens."""
    writer, spelled, text = Writer(vocabulary, **options), [], ""
    for token in ids:
        piece = writer.push(token)
        assert piece.offset <= len(text) + len(piece.text)
        spelled.append(spelling_of(vocabulary)(token, piece.opens) or b"")
        text += piece.text
    return text + writer.rest(), b"".join(spelled)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_texts_tokens_spell_it(name: str, text: str) -> None:
    vocabulary = VOCABULARIES[name]()
    ids = vocabulary.encode(text, add_special_tokens=False)
    shown, spelled = written(vocabulary, ids)
    assert shown == vocabulary.decode(ids) == spelled.decode() == text


@pytest.mark.parametrize("name", VOCABULARIES)
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_tokens_come_the_text_is_their_bytes(name: str, data: st.DataObject) -> None:
    vocabulary = VOCABULARIES[name]()
    ids = data.draw(st.lists(st.integers(0, len(vocabulary) - 1), max_size=12))
    shown, spelled = written(vocabulary, ids)
    assert shown == spelled.decode("utf-8", "replace")
    if name == "byte level":
        assert shown == vocabulary.decode(ids, skip_special_tokens=True)


def test_a_space_before_a_word_belongs_to_its_token_but_for_the_first_of_a_text() -> None:
    spell, ids = spelling_of(sentencepiece()), sentencepiece().convert_tokens_to_ids(["▁one", "one"])
    assert [spell(token) for token in ids] == [b" one", b"one"]
    assert [spell(token, opens=True) for token in ids] == [b"one", b"one"]
    kept = spelling_of(sentencepiece(False))
    assert [kept(token, opens=True) for token in ids] == [b" one", b"one"]


def test_a_text_that_goes_on_keeps_its_first_space() -> None:
    ids = sentencepiece().encode("one two", add_special_tokens=False)
    assert written(sentencepiece(), ids) == ("one two", b"one two")
    assert written(sentencepiece(), ids, continues=True) == (" one two", b" one two")


def test_special_tokens_are_no_text() -> None:
    for vocabulary in (tokenizer(), sentencepiece()):
        assert spelling_of(vocabulary)(vocabulary.eos_token_id) is None
        ids = [vocabulary.eos_token_id, *vocabulary.encode("one", add_special_tokens=False)]
        assert written(vocabulary, ids) == ("one", b"one")
