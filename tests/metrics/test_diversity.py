"""Distinct-n and Self-BLEU: laws, and a figure worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cuma.metrics.diversity import blocks, diversity, mean_over, self_bleu, words

VARIED = [" ".join(f"w{17 * n + k}" for k in range(17)) for n in range(60)]


def test_words_do_not_depend_on_capitals_or_spaces() -> None:
    assert words("Don't lie;  EVER.") == ["don", "'", "t", "lie", ";", "ever", "."]


def test_blocks_hold_the_budget_exactly_and_every_token_once() -> None:
    dealt = blocks(VARIED, budget=100)
    assert {sum(map(len, block)) for block in dealt} == {100}
    tokens = [token for block in dealt for text in block for token in text]
    assert len(tokens) == len(set(tokens)) == 100 * (17 * 60 // 100)
    assert blocks(VARIED, 100, seed=1) != dealt == blocks(VARIED, 100)


def test_the_same_over_and_over_has_self_bleu_one_and_nothing_shared_almost_none() -> None:
    same = diversity(["the same words are said by everybody here"] * 200, budget=200)
    assert same["self_bleu"]["value"] == pytest.approx(1, abs=0.02)  # a text cut at a block's end falls a little short
    assert same["distinct_1"]["value"] == pytest.approx(8 / 200)
    varied = diversity(VARIED, budget=200)
    assert varied["self_bleu"]["value"] < 0.02
    assert varied["distinct_1"]["value"] == varied["distinct_2"]["value"] == 1


def test_the_budget_makes_figures_comparable_where_the_amount_of_text_would_not() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{word}" for word in rng.zipf(1.5, size=20) % 500) for _ in range(400)]
    few, many = diversity(texts[:100], budget=400), diversity(texts, budget=400)
    assert many["distinct_1"]["low"] < few["distinct_1"]["value"] < many["distinct_1"]["high"] + 0.05
    assert diversity(texts, budget=4000)["distinct_1"]["value"] < 0.8 * many["distinct_1"]["value"]


def test_self_bleu_by_hand() -> None:
    texts = [words("a b c d e"), words("a b c d f")]
    # Each: 4 of 5 words, 3 of 4 pairs, 2 of 3 triples, 1 of 2 quadruples; equally long.
    assert self_bleu(texts) == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert np.isnan(self_bleu([words("a b c d e")]))
    short = [words("a b c d"), words("a b c d e f g h")]
    first = np.exp(1 - 8 / 4)  # all its n-grams occur, but it is half as long
    second = (4 / 8 * 3 / 7 * 2 / 6 * 1 / 5) ** 0.25
    assert self_bleu(short) == pytest.approx((first + second) / 2)


def test_too_little_text_is_no_figure() -> None:
    assert diversity(["short"])["distinct_1"] == {"value": None, "low": None, "high": None}
    assert mean_over([0.5]) == {"value": 0.5, "low": None, "high": None}
