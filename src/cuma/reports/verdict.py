"""The headline and the plain sentences, written from the numbers: who won, by how much, and what is within noise."""

from __future__ import annotations

from typing import Literal

import pandas as pd

from cuma.metrics.figures import number
from cuma.reports.tables import SIDES, Side, interval

Standing = Literal["ahead", "level", "behind"]

WHERE: dict[Side, str] = {"seen": "groups it was trained on", "unseen": "groups it never saw"}
OPENING: dict[Side, str] = {
    "seen": "groups that took part in training",
    "unseen": "groups never seen in training",
}
SPLIT: dict[Side, str] = {"seen": "groups of the training split", "unseen": "groups that are held out"}
"""What is true of groups also where no model was trained on these data."""
FIGURE = "has a soft EMD of "
AVERAGE = "anchor-average"
"""The anchor that a picture marks and a single model is compared with: everybody's average."""


def headline(table: pd.DataFrame) -> str:
    """One line on how the reference stands among the models. `table`: a `comparison_table`."""
    reference = table[table["role"] == "reference"]
    if reference.empty:
        return "How close each method comes to people’s answers"
    where = WHERE if reference["trained"].any() else SPLIT
    label = f"On new questions, {reference['label'].iloc[0]}" if _new(table) else reference["label"].iloc[0]
    phrases = {side: phrase for side in SIDES if (phrase := _headline_phrase(table, side)) is not None}
    if len(phrases) == 2 and phrases["seen"] == phrases["unseen"]:
        return f"{label} {phrases['seen']}, on {where['seen']} and on {where['unseen']}"
    if len(phrases) == 1 and where is SPLIT:
        return f"{label} {next(iter(phrases.values()))}"
    parts = " and ".join(f"{phrase} on {where[side]}" for side, phrase in phrases.items())
    return f"{label} {parts}".replace(f" and {FIGURE}", " and of ")


def _new(table: pd.DataFrame) -> bool:
    """Whether the questions of the table are new: the sides are then of those alone."""
    return bool(table["new"].any())


def _opening(table: pd.DataFrame, side: Side) -> str:
    models = table[table["role"] != "anchor"]
    words = OPENING if models.empty or models["trained"].any() else SPLIT
    return f"On {'new questions to ' if _new(table) else ''}{words[side]}"


def _headline_phrase(table: pd.DataFrame, side: Side) -> str | None:
    models, reference = _models(table, side)
    if reference is None:
        return None
    best = models.iloc[0]
    rivals = models[models["role"] == "rival"]
    if rivals.empty:
        return _phrase_alone(table[(table["side"] == side) & (table["name"] == AVERAGE)], reference)
    better = [row for _, row in rivals.iterrows() if standing(row) == "ahead"]
    if better:
        return f"loses to {better[0]['label']}"
    if all(standing(row) == "behind" for _, row in rivals.iterrows()):
        return "comes closer to people’s answers than any other model"
    return "is level with the next best model" if best["role"] == "reference" else f"is level with {best['label']}"


def _phrase_alone(average: pd.DataFrame, reference: pd.Series) -> str:
    """A single model beside everybody's average answer, where that is known."""
    if average.empty:
        return FIGURE + number(reference["soft_emd"])
    words: dict[Standing, str] = {"behind": "comes closer to", "level": "is no closer to", "ahead": "is farther from"}
    return f"{words[standing(average.iloc[0])]} people’s answers than everybody’s average"


def sentences(table: pd.DataFrame) -> list[str]:
    """Three sentences: seen groups, unseen groups, mean collapse. A side without predictions has none."""
    sides = [side for side in SIDES if (table["side"] == side).any()]
    return [*(side_sentence(table, side) for side in sides), spread_sentence(table)]


def side_sentence(table: pd.DataFrame, side: Side) -> str:
    """Who comes closest on one side, and where everyone stands against the reference."""
    models, reference = _models(table, side)
    anchors = table[(table["side"] == side) & (table["role"] == "anchor")].sort_values("soft_emd", kind="stable")
    if reference is None:
        ranked = pd.concat([models, anchors]).sort_values("soft_emd", kind="stable")
        listed = _listed(ranked, "soft_emd", 3)
        return f"{_opening(table, side)}, the soft EMD (lower is better) is {listed}; no differences were tested."
    text = f"{_opening(table, side)}, " + (_race(models, reference) if len(models) > 1 else _alone(reference))
    return text + _anchor_clause(anchors, reference["label"]) + "."


def _race(models: pd.DataFrame, reference: pd.Series) -> str:
    """The reference against the best other model, and whoever else is within noise or better."""
    rivals = models[models["role"] == "rival"]
    best, label, place = rivals.iloc[0], reference["label"], standing(rivals.iloc[0])
    outcome = {
        "behind": f"{label} comes closest to people’s answers of all models: its soft EMD is",
        "level": f"{label} and the best other model are within noise of each other: {label} has a soft EMD of",
        "ahead": f"{label} is beaten by another model: its soft EMD is",
    }[place]
    text = f"{outcome} {number(reference['soft_emd'])}, and {number(best['soft_emd'])} for the best other model "
    text += f"({best['label']}), a difference of {number(abs(best['difference']))}{_bounds(best)}"
    others = [row for _, row in rivals.iloc[1:].iterrows()]
    better = [row["label"] for row in others if standing(row) == "ahead"]
    level = [row["label"] for row in others if standing(row) == "level"]
    if better:
        text += f"; {joined(better)} {_do(better)} better than {label} as well"
    if level:
        text += f"; {joined(level)} {_be(level)} within noise of {label}{' as well' if place == 'level' else ''}"
    return text


def _alone(reference: pd.Series) -> str:
    return f"{reference['label']} has a soft EMD of {number(reference['soft_emd'])} ({interval(reference, 'soft_emd')})"


def _anchor_clause(anchors: pd.DataFrame, label: str) -> str:
    """The statistics that need no language model, sorted by how they stand against the reference."""
    named: dict[Standing, list[str]] = {"ahead": [], "level": [], "behind": []}
    for _, row in anchors.iterrows():
        named[standing(row)].append(f"{row['label']} ({number(row['soft_emd'])})")
    parts = []
    if named["ahead"]:
        parts.append(f"{joined(named['ahead'])} {_do(named['ahead'])} better")
    if named["level"]:
        parts.append(f"{joined(named['level'])} {_be(named['level'])} within noise")
    if named["behind"]:
        parts.append(f"{joined(named['behind'])} {_do(named['behind'])} worse")
    return f"; among the anchors, compared with {label}, " + ", and ".join(parts) if parts else ""


def spread_sentence(table: pd.DataFrame) -> str:
    """Mean collapse: how diverse the models are on each side, and which of them are within noise of the reference."""
    models = table[table["role"].isin(["reference", "rival"])]
    start = "A spread of 0 is mean collapse (every group gets the same answer) and 1 is as diverse as people"
    if models.empty:
        return f"{start}; there is no model to judge here, only anchors."
    reference = models[models["role"] == "reference"]
    rivals = models[models["role"] == "rival"]
    if reference.empty:
        return f"{start}; {_plain_spreads(rivals)}."
    label = reference["label"].iloc[0]
    judged = [_judged_spread(row) for _, row in reference[reference["spread"].notna()].iterrows()]
    text = f"{start}: {label} reaches {joined(judged)}" if judged else f"{start}; of {label} it is not known here"
    return f"{text}; {_plain_spreads(rivals)}{_spread_noise(rivals, label)}." if len(rivals) else f"{text}."


def _judged_spread(row: pd.Series) -> str:
    bounds = interval(row, "spread", 2)
    inside = f" (95 % interval {bounds}: {diversity(row)})" if bounds else ""
    return f"{number(row['spread'], 2)} on {row['side']} groups{inside}"


def _plain_spreads(rivals: pd.DataFrame) -> str:
    parts = []
    for _, row in rivals.drop_duplicates("name").iterrows():
        sides = rivals[rivals["name"] == row["name"]]
        values = joined([f"{number(side['spread'], 2)} ({side['side']})" for _, side in sides.iterrows()])
        parts.append(f"{row['label']} has {values}")
    return joined(parts)


def _spread_noise(rivals: pd.DataFrame, label: str) -> str:
    """Which rivals' spreads differ from the reference's by more than noise, on paired draws."""
    low, high = rivals["spread_difference_low"].round(2), rivals["spread_difference_high"].round(2)
    level = rivals[~((low > 0) | (high < 0))]
    if level.empty:
        return f"; none of these is within noise of {label}"
    if len(level) == len(rivals):
        return f"; all of these are within noise of {label}"
    names = [f"{row['label']} ({row['side']})" for _, row in level.iterrows()]
    return f"; within noise of {label} {_be(names)} only {joined(names)}"


def diversity(row: pd.Series) -> str:
    """What a spread's interval, as printed, means in words."""
    low, high = round(row["spread_low"], 2), round(row["spread_high"], 2)
    if high < 0.5:
        return "collapsed towards the average"
    if high < 1:
        return "less diverse than people"
    return "more diverse than people" if low > 1 else "as diverse as people, within noise"


def control_sentences(table: pd.DataFrame) -> list[str]:
    """What each control did on unseen groups beside the reference: the check that a profile's meaning is used."""
    sentences = []
    rows = table[table["side"] == "unseen"]
    words: dict[Standing, str] = {"ahead": "better than", "level": "within noise of", "behind": "worse than"}
    for _, row in rows[rows["role"] == "control"].iterrows():
        reference = rows.loc[rows["role"] == "reference"]
        if not reference.empty:
            label, score = reference["label"].iloc[0], number(reference["soft_emd"].iloc[0])
            gap = f"{number(row['difference'], sign=True)}, 95 % interval {interval(row, 'difference', sign=True)}"
            sentences.append(
                f"Control: on unseen groups {row['label']} has a soft EMD of {number(row['soft_emd'])}, "
                f"{words[standing(row)]} {label} ({score}; difference {gap}). Its profiles were exchanged between "
                "groups once, in training and in evaluation alike, so what a profile says about a new group was lost."
            )
    return sentences


def standing(row: pd.Series) -> Standing:
    """Where a method stands against the reference, by the paired interval of its soft EMD; level if there is none.

    As printed, to three digits: a sentence never calls a difference real whose interval is shown to reach 0.
    """
    if round(row["difference_high"], 3) < 0:
        return "ahead"
    return "behind" if round(row["difference_low"], 3) > 0 else "level"


def joined(names: list[str]) -> str:
    """ "A", "A and B", "A, B and C"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _models(table: pd.DataFrame, side: Side) -> tuple[pd.DataFrame, pd.Series | None]:
    """Reference and rivals of a side, closest to people first; and the reference's row."""
    rows = table[(table["side"] == side) & table["role"].isin(["reference", "rival"])]
    rows = rows.sort_values("soft_emd", kind="stable")
    reference = rows[rows["role"] == "reference"]
    return rows, None if reference.empty else reference.iloc[0]


def _bounds(row: pd.Series) -> str:
    """The 95 % interval of a difference's size, in the direction in which the sentence tells it."""
    low, high = row["difference_low"], row["difference_high"]
    if pd.isna(low):
        return " (no interval: too few groups, or too few that differ)"
    if row["difference"] < 0:
        low, high = -high, -low
    return f" (95 % interval {number(low)} to {number(high)})"


def _listed(rows: pd.DataFrame, metric: str, digits: int) -> str:
    return joined([f"{number(row[metric], digits)} for {row['label']}" for _, row in rows.iterrows()])


def _do(names: list[str]) -> str:
    return "does" if len(names) == 1 else "do"


def _be(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
