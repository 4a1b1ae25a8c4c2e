"""Near-repeats stay together, whatever the order of items; a battery that is everything is divided."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from cuma.data.surveys.item_families import NEAR, item_families

GOOD = ("Very good", "Somewhat good", "Somewhat bad", "Very bad")
FAVOUR = "Please tell me if you have a favorable or an unfavorable opinion of {}"


def test_batteries_and_rewordings_are_families_and_other_questions_are_not() -> None:
    items = {
        "china": (FAVOUR.format("China"), GOOD),
        "spain": (FAVOUR.format("Spain"), tuple(reversed(GOOD))),
        "brexit": ("Do you approve of the United Kingdom leaving the European Union?", ("Yes", "No")),
        "brexit again": ("Do you approve of the United Kingdom leaving the European Union", ("Approve", "Disapprove")),
        "trains": ("How often do you travel by train?", ("Often", "Never")),
        "water": ("Is the water from your tap clean?", ("Yes", "No")),
        "noise": ("Does noise wake you up at night?", ("Yes", "No")),
    }
    family, divided = item_families(items)
    assert family["china"] == family["spain"]
    assert family["brexit"] == family["brexit again"] == "brexit"
    assert len(set(family.values())) == 5
    assert divided == 0
    other_scale = items | {"spain": (items["spain"][0], ("Yes", "No"))}
    assert item_families(other_scale)[0]["spain"] == "china"  # 12 of 13 words: near, whatever the options


def test_a_battery_that_is_nearly_everything_is_divided_and_counted() -> None:
    whom = ("Joe Biden", "labor unions", "big business", "rural Americans", "scientists", "journalists")
    items = {name: (f"How do you feel about {name}?", GOOD) for name in whom}
    family, divided = item_families(items | {"other": ("Did you vote?", ("Yes", "No"))})
    assert divided == len(whom)
    assert len(set(family.values())) == len(whom) + 1


def test_texts_without_words_and_of_other_scripts_are_read() -> None:
    items = {"a": ("???", GOOD), "b": ("!!!", GOOD), "c": ("あなたは日本の政治に満足していますか", GOOD),
             "d": ("あなたは日本の経済に満足していますか", GOOD), "e": ("How?", GOOD)}  # fmt: skip
    family, _ = item_families(items)
    assert family["c"] == family["d"]
    assert family["a"] != family["b"]
    assert item_families({"one": ("Alone?", GOOD)}) == ({"one": "one"}, 0)


WORDS = st.sampled_from(["tea", "coffee", "milk", "water", "juice", "bread", "rice", "fish", "meat", "salt"])


@given(st.lists(st.lists(WORDS, min_size=1, max_size=8).map(" ".join), min_size=1, max_size=25), st.randoms())
def test_what_is_nearly_one_wording_is_one_family_in_any_order(texts: list[str], lot: object) -> None:
    items = {f"q{number:02d}": (text, GOOD) for number, text in enumerate(texts)}
    family, _ = item_families(items)
    shuffled = list(items)
    lot.shuffle(shuffled)  # type: ignore[attr-defined]
    assert item_families({name: items[name] for name in shuffled})[0] == family
    words = {name: set(re.findall(r"\w+", text)) for name, (text, _) in items.items()}
    for one in items:
        for other in items:
            dice = 2 * len(words[one] & words[other]) / (len(words[one]) + len(words[other]))
            assert dice < NEAR or family[one] == family[other]
