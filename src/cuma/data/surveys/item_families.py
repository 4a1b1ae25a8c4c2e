"""Near-repeats among items: questions of one battery, and one question in almost the same words, stay together.

An item in the test whose sister was trained on is hardly new. The measure is Dice's coefficient (1945) of the two
wordings' sets of words: twice the words that both have, over the words of one plus those of the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

NEAR = 0.85
"""Wordings that are at least so much alike are one question, whatever its options."""
ALIKE = 0.7
"""Wordings that are at least so much alike are one battery, if their options are the same."""
MOST = 0.5
"""A battery of more than this share of all items is divided again by `NEAR`: else nothing could be held out."""
BLOCK = 512
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\w+")  # Chinese and Japanese are not written in words


def item_families(items: Mapping[str, tuple[str, Sequence[str]]]) -> tuple[dict[str, str], int]:
    """Each item's family, named by the least id in it, and how many items are of batteries that had to be divided.

    items: id → (wording, options). The same for every order of items.
    """
    ids = sorted(items)
    first, second, dice = _alike([items[name][0] for name in ids])
    options = [tuple(sorted(option.casefold() for option in items[name][1])) for name in ids]
    number = {shown: place for place, shown in enumerate(dict.fromkeys(options))}
    scale = np.array([number[shown] for shown in options])
    near = dice >= NEAR
    battery = _linked(len(ids), first, second, near | (scale[first] == scale[second]))
    large = np.bincount(battery)[battery] > MOST * len(ids)
    apart = _linked(len(ids), first, second, near)
    family = np.where(large, len(ids) + apart, battery)
    name_of: dict[int, str] = {}
    for place, name in enumerate(ids):
        name_of.setdefault(int(family[place]), name)
    divided = bool(large.any()) and len(set(apart[large].tolist())) > 1
    return {name: name_of[int(family[place])] for place, name in enumerate(ids)}, int(large.sum()) if divided else 0


def _linked(
    size: int, first: NDArray[np.int64], second: NDArray[np.int64], wanted: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """[size]: which items hang together by the wanted pairs, directly or through others."""
    pairs = coo_array((np.ones(int(wanted.sum())), (first[wanted], second[wanted])), shape=(size, size))
    return np.asarray(connected_components(pairs, directed=False)[1], dtype=np.int64)


def _alike(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The pairs of texts that are at least `ALIKE` alike: places of the one and the other, and the coefficient."""
    first, second, dice = [], [], []
    for start in range(0, len(texts), BLOCK):
        both = word_similarity(texts[start : start + BLOCK], texts)
        ours, others = np.nonzero(both >= ALIKE)
        upper = ours + start < others
        first.append(ours[upper] + start)
        second.append(others[upper])
        dice.append(both[ours[upper], others[upper]])
    return np.concatenate(first), np.concatenate(second), np.concatenate(dice)


def word_similarity(texts: Sequence[str], others: Sequence[str]) -> NDArray[np.float64]:
    """[n, m]: Dice's coefficient of every text with every other one. Texts without any word are alike if equal."""
    words = [[set(_WORD.findall(text.casefold())) or {text} for text in part] for part in (texts, others)]
    column = {word: place for place, word in enumerate(sorted(set().union(*words[0], *words[1])))}
    sizes = [np.array([len(each) for each in part]) for part in words]
    there = []
    for part, size in zip(words, sizes, strict=True):
        at = np.array([column[word] for each in part for word in each])
        row = np.repeat(np.arange(len(part)), size)
        there.append(csr_array((np.ones(len(at)), (row, at)), shape=(len(part), len(column))))
    return np.asarray(2 * (there[0] @ there[1].T).toarray() / (sizes[0][:, None] + sizes[1]))
