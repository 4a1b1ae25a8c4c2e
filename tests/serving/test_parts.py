"""Sampling, text and slots, one by one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cuma.serving.prefixes import LEAST, Owner, Prefixes
from cuma.serving.sampling import Sampler, Sampling, nucleus
from cuma.serving.slots import Slots
from cuma.serving.text import Writer
from helpers.served import tokenizer


def test_samples_follow_the_distribution() -> None:
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    sampler = Sampler(Sampling(seed=0))
    drawn = torch.tensor([sampler.choose(logits).token for _ in range(4000)])
    shares = torch.bincount(drawn, minlength=4) / 4000
    torch.testing.assert_close(shares, logits.exp(), rtol=0, atol=0.03)
    narrow = Sampler(Sampling(seed=0, top_p=0.5))
    assert {narrow.choose(logits).token for _ in range(200)} == {2, 3}
    cold = Sampler(Sampling(seed=0, temperature=0.1))
    assert sum(cold.choose(logits).token == 3 for _ in range(200)) > 180


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=40), st.floats(0.05, 0.99))
@settings(max_examples=60, deadline=None)
def test_a_nucleus_is_the_smallest_set_that_reaches_top_p(weights: list[float], top_p: float) -> None:
    shares = torch.tensor(weights, dtype=torch.float64)
    shares = shares / shares.sum()
    inside = nucleus(shares, top_p)
    assert float(shares[inside].sum()) >= top_p - 1e-9
    assert float(shares[inside].sum() - shares[inside].min()) < top_p
    if not bool(inside.all()):
        assert float(shares[inside].min()) >= float(shares[~inside].max())


def test_penalties_lower_what_was_said() -> None:
    logits = torch.tensor([1.0, 0.9, 0.0])
    sampler = Sampler(Sampling(temperature=0, frequency_penalty=0.5))
    assert [sampler.choose(logits).token for _ in range(4)] == [0, 1, 0, 1]


TEXTS = ["Hello, world!", "  two  spaces\n\nand lines", "Ünïcödé: 日本語 🙂👩‍👩‍👧 ok", "a<|im_end|>b"]


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_whole_characters_and_together_the_text(text: str) -> None:
    ids = tokenizer().encode(text, add_special_tokens=False)
    writer = Writer(tokenizer())
    pieces = [writer.push(token).text for token in ids]
    pieces.append(writer.rest())
    assert "".join(pieces) == tokenizer().decode(ids, skip_special_tokens=True)
    assert not [piece for piece in pieces if "�" in piece]


@given(st.text(alphabet="abcx ", min_size=1, max_size=30), st.text(alphabet="abc ", min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_nothing_of_a_stop_string_is_ever_shown(text: str, stop: str) -> None:
    ids = tokenizer().encode(text, add_special_tokens=False)
    writer, shown = Writer(tokenizer(), [stop]), ""
    for token in ids:
        piece = writer.push(token)
        shown += piece.text
        assert stop not in shown
        if piece.stopped:
            break
    assert shown + writer.rest() == text.partition(stop)[0]


def test_slots_keep_their_own_when_others_go() -> None:
    slots, written = Slots(layers=1), {}
    for number in range(6):
        slot = slots.open()
        keys = torch.full((1, 2, 3 + number, 4), float(number))
        window = slots.window(slot, 1, 3 + number)
        found, _ = window.update(keys, -keys, 0)
        slots.lengths[slot] += 3 + number
        assert torch.equal(found, keys)
        written[slot] = number
    for slot in (1, 4, 0):
        last = slots.close(slot)
        written[slot] = written.pop(last) if last != slot else written.pop(slot)
    assert len(slots) == 3
    for slot in range(3):
        number = written[slot]
        ((keys, values),) = slots.prefix(slot, slots.lengths[slot])
        assert torch.equal(keys, torch.full((2, 3 + number, 4), float(number)))
        assert torch.equal(values, -keys)


def test_kept_keys_belong_to_one_owner_and_grow_old() -> None:
    kept = Prefixes(max_bytes=10**6, max_seconds=1000)
    tokens = list(range(40))
    prefix = [(torch.zeros(1, 40, 2), torch.zeros(1, 40, 2))]
    mine, yours = Owner("m", "", b"me"), Owner("m", "", b"you")
    kept.put(mine, tokens, prefix)
    assert kept.find(yours, tokens) is None
    assert kept.find(Owner("m", "other key", b"me"), tokens) is None
    found = kept.find(mine, [*tokens[:30], 99, 98])
    assert found is not None
    assert found[0][0].shape[1] == 30
    found = kept.find(mine, tokens)
    assert found is not None
    assert found[0][0].shape[1] == 39, "the last token is always run"
    assert kept.find(mine, [*tokens[: LEAST - 1], 99, 98]) is None
    kept.max_seconds = -1
    kept.tidy()
    assert kept.bytes == 0
    assert kept.find(mine, tokens) is None
