"""The sentences follow the numbers, whoever wins."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest

from cuma.reports import comparison_table
from cuma.reports.verdict import control_sentences, diversity, headline, sentences, standing

Row = tuple[str, str, float, float, float]  # label, role, soft EMD, low and high of the difference from the reference


def made(
    *rows: Row,
    sides: Sequence[str] = ("seen", "unseen"),
    spread: float = 0.9,
    new: bool = False,
    trained: bool = True,
) -> pd.DataFrame:
    """A comparison table with only what sentences need; the reference is called "Mix"."""
    found = []
    for side in sides:
        for label, role, emd, low, high in rows:
            spreads = {"spread": spread, "spread_low": spread - 0.05, "spread_high": spread + 0.05}
            gap = {"difference": (low + high) / 2, "difference_low": low, "difference_high": high}
            widths = {"soft_emd_low": emd - 0.01, "soft_emd_high": emd + 0.01}
            more = {"spread_difference_low": -0.1, "spread_difference_high": 0.1}
            common = {
                "side": side,
                "name": label,
                "label": label,
                "role": role,
                "soft_emd": emd,
                "new": new,
                "trained": trained,
            }
            found.append(common | spreads | gap | widths | more)
    return pd.DataFrame(found)


MIX: Row = ("Mix", "reference", 0.06, math.nan, math.nan)


def test_a_clear_win() -> None:
    table = made(MIX, ("Dense", "rival", 0.08, 0.01, 0.03), ("Plain", "rival", 0.12, 0.04, 0.08))
    assert headline(table).startswith("Mix comes closer to people’s answers than any other model")
    text = sentences(table)[0]
    assert "Mix comes closest" in text
    assert "0.060, and 0.080 for the best other model (Dense), a difference of 0.020" in text
    assert "0.010 to 0.030" in text
    assert "within noise" not in text


def test_new_questions_are_said() -> None:
    rows = MIX, ("Dense", "rival", 0.08, 0.01, 0.03)
    assert headline(made(*rows, new=True)) == f"On new questions, {headline(made(*rows))}"
    assert sentences(made(*rows, new=True))[0].startswith("On new questions to groups that took part in training, Mix")
    assert sentences(made(*rows))[0].startswith("On groups that took part in training, Mix")


def test_words_hold_where_no_model_was_trained() -> None:
    rows = MIX, ("Dense", "rival", 0.08, 0.01, 0.03)
    for text in (headline(made(*rows, trained=False)), *sentences(made(*rows, trained=False))):
        assert "took part" not in text
        assert "it was trained on" not in text
        assert "never saw" not in text
    assert "groups of the training split" in headline(made(*rows, trained=False))
    one_side = headline(made(*rows, trained=False, sides=["unseen"]))
    assert one_side == "Mix comes closer to people’s answers than any other model"


def test_one_model_alone_stands_beside_the_average() -> None:
    assert headline(made(MIX, sides=["seen"])) == "Mix has a soft EMD of 0.060 on groups it was trained on"
    unseen = made(("Mix", "reference", 0.07, math.nan, math.nan), sides=["unseen"])
    both = "Mix has a soft EMD of 0.060 on groups it was trained on and of 0.070 on groups it never saw"
    assert headline(pd.concat([made(MIX, sides=["seen"]), unseen])) == both
    for low, words in ((0.02, "comes closer to"), (-0.01, "is no closer to"), (-0.09, "is farther from")):
        average = ("anchor-average", "anchor", 0.1, low, low + 0.04)
        expected = f"Mix {words} people’s answers than everybody’s average on groups it never saw"
        assert headline(made(MIX, average, sides=["unseen"])) == expected


def test_a_clear_loss() -> None:
    table = made(MIX, ("Dense", "rival", 0.04, -0.03, -0.01), ("Plain", "rival", 0.05, -0.02, -0.002))
    assert headline(table).startswith("Mix loses to Dense")
    text = sentences(table)[1]
    assert "Mix is beaten by another model" in text
    assert "a difference of 0.020" in text
    assert "0.010 to 0.030" in text
    assert "Plain does better than Mix as well" in text
    assert "closest" not in text


@pytest.mark.parametrize("emd", [0.058, 0.062])
def test_a_tie_is_called_a_tie_whoever_is_in_front(emd: float) -> None:
    table = made(MIX, ("Dense", "rival", emd, -0.01, 0.01), ("Plain", "rival", 0.07, -0.001, 0.02))
    assert "is level with" in headline(table)
    text = sentences(table)[0]
    assert "Mix and the best other model are within noise of each other" in text
    assert "Plain is within noise of Mix as well" in text
    assert "closest" not in text
    assert "beaten" not in text


def test_sides_may_differ() -> None:
    won = made(MIX, ("Dense", "rival", 0.08, 0.01, 0.03), sides=["seen"])
    lost = made(MIX, ("Dense", "rival", 0.04, -0.03, -0.01), sides=["unseen"])
    text = headline(pd.concat([won, lost]))
    assert text.index("any other model on groups it was trained on") < text.index(
        "loses to Dense on groups it never saw"
    )


def test_anchors_that_beat_the_reference_are_named() -> None:
    anchors: list[Row] = [
        ("ridge", "anchor", 0.05, -0.02, -0.005),
        ("logistic", "anchor", 0.059, -0.01, 0.01),
        ("average", "anchor", 0.13, 0.05, 0.09),
    ]
    text = sentences(made(MIX, ("Dense", "rival", 0.08, 0.01, 0.03), *anchors))[1]
    assert "ridge (0.050) does better, and logistic (0.059) is within noise, and average (0.130) does worse" in text


def test_a_control_is_no_rival() -> None:
    table = made(MIX, ("Dense", "rival", 0.08, 0.01, 0.03), ("Shuffled", "control", 0.05, -0.02, -0.01))
    assert "any other model" in headline(table)
    assert "Shuffled" not in " ".join(sentences(table))
    assert "better than Mix" in control_sentences(table)[0]
    worse = made(MIX, ("Shuffled", "control", 0.17, 0.05, 0.15))
    assert "worse than Mix" in control_sentences(worse)[0]


@pytest.mark.parametrize(
    ("spread", "words"),
    [
        (0.1, "collapsed towards the average"),
        (0.8, "less diverse than people"),
        (1.0, "as diverse as people, within noise"),
        (1.5, "more diverse than people"),
    ],
)
def test_spread_in_words(spread: float, words: str) -> None:
    table = made(MIX, ("Dense", "rival", 0.08, 0.01, 0.03), spread=spread)
    assert diversity(table.iloc[0]) == words
    assert words in sentences(table)[2]
    assert "all of these are within noise of Mix" in sentences(table)[2]


def test_only_anchors_and_no_reference_still_read() -> None:
    anchors: list[Row] = [
        ("average", "anchor", 0.13, math.nan, math.nan),
        ("ridge", "anchor", 0.06, math.nan, math.nan),
    ]
    table = made(*anchors)
    assert headline(table) == "How close each method comes to people’s answers"
    first = sentences(table)[0]
    assert first.index("0.060 for ridge") < first.index("0.130 for average")
    assert "no differences were tested" in first
    assert sentences(table)[2].endswith("only anchors.")
    assert control_sentences(table) == []


def test_an_interval_printed_as_reaching_zero_is_no_difference() -> None:
    assert standing(made(("Dense", "rival", 0.08, 0.0003, 0.03)).iloc[0]) == "level"
    assert standing(made(("Dense", "rival", 0.08, 0.0006, 0.03)).iloc[0]) == "behind"


def test_missing_intervals_are_said() -> None:
    text = sentences(made(MIX, ("Dense", "rival", 0.08, math.nan, math.nan)))[0]
    assert "no interval" in text
    assert "nan" not in text


def test_the_verdict_turns_when_the_predictions_do(runs: list[Path], copy_of: Callable[[Path], Path]) -> None:
    """The same folders with two methods' predictions exchanged: the winner loses."""
    lora, cuma = (copy_of(run) for run in runs if run.name in ("lora", "cuma"))
    before = headline(comparison_table([lora, cuma], draws=60))
    first, second = (next(run.glob("evaluations/*/predictions.parquet")) for run in (lora, cuma))
    first_bytes = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(first_bytes)
    after = headline(comparison_table([lora, cuma], draws=60))
    assert before.startswith("CuMA comes closer to people’s answers than any other model")
    assert after.startswith("CuMA loses to LoRA")
