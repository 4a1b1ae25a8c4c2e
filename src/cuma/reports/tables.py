"""The comparison of methods as numbers (pandas), and each of its cells as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from cuma.metrics.corners import ITEM_SEEN
from cuma.metrics.figures import MISSING, effect_text, estimate_text, number, p_text
from cuma.metrics.measure import METRICS
from cuma.metrics.pointwise import LOW_OPTION_MASS
from cuma.metrics.scores import score_many
from cuma.privacy.small_groups import people_text
from cuma.runs.evidence import Evidence, read_evidence
from cuma.runs.group_answers import too_few
from cuma.runs.method import Method

Side = Literal["seen", "unseen"]
SIDES: tuple[Side, Side] = ("seen", "unseen")
COMPARED = ("soft_emd", "spread")
"""Metrics whose paired difference from the reference is kept."""

UNKNOWN: dict[str, Any] = {"value": None, "low": None, "high": None}
THREE_DIGITS = ("noise_floor", "jsd", "kl", "brier", "ece", "steerability")


@dataclass(frozen=True)
class Column:
    """A column of the shown table: its heading and, in one plain sentence, what it says."""

    key: str
    heading: str
    meaning: str

    def filled(self, reference: str = "", items_drawn: bool = False) -> Column:
        """With the reference's label, and what intervals draw, put in."""
        words = {"reference": reference, "drawn": DRAWN[items_drawn][0], "same": DRAWN[items_drawn][1]}
        return Column(self.key, self.heading.format(**words), self.meaning.format(**words))


DRAWN = {
    False: ("resampling groups", "resampled groups"),
    True: ("resampling questions and groups", "resampled questions and groups"),
}
"""What intervals resample: of people's answers groups; of shares without people, and of new items, both."""

COLUMNS = (
    Column(
        "soft_emd",
        "Soft EMD ↓",
        "How far the predicted shares of answers lie from people's shares, from 0 (equal) to 1, averaged over "
        "questions and groups; in brackets the 95 % interval, from {drawn}.",
    ),
    Column(
        "noise_floor",
        "Noise floor",
        "The soft EMD that a perfect model would still show, because each group was asked through a limited number of "
        "people; nothing real can be read below it.",
    ),
    Column(
        "difference",
        "Against {reference}",
        "The method's soft EMD minus that of {reference}, on the same {same}; above 0 the method is worse, and "
        "when the 95 % interval contains 0 the difference is within noise.",
    ),
    Column(
        "p_holm",
        "p",
        "How often chance alone would give a soft EMD as far from that of {reference}, after Holm's correction for all "
        "methods of the table (bootstrap).",
    ),
    Column("accuracy", "Accuracy ↑", "Share of people whose own answer is the method's likeliest one for their group."),
    Column(
        "option_mass",
        "Option mass",
        "Probability that the model gave to the answer letters at all, before they were scaled to 1; "
        f"below {LOW_OPTION_MASS} (marked ⚠) the model hardly answers the question.",
    ),
    Column(
        "spread",
        "Spread",
        "How much predicted groups differ from each other, relative to how much people's groups do beyond chance: "
        "0 is mean collapse, 1 is as diverse as people, above 1 is exaggerated.",
    ),
    Column(
        "alignment",
        "Alignment ↑",
        "Whether groups differ in the right direction: the correlation of predicted with true differences between "
        "groups.",
    ),
    Column("trainable_parameters", "Parameters", "How many numbers were trained."),
    Column("seconds", "Seconds", "Time to train plus time to evaluate, on the machine named below."),
)
"""The table that everybody sees."""
MORE_COLUMNS = (
    Column(
        "argmax_emd",
        "Argmax EMD ↓",
        "Soft EMD when the method must give its likeliest answer to everybody of a group; it hardly tells a perfect "
        "model from one that knows only the average.",
    ),
    Column(
        "sampler_floor",
        "Sampler's floor",
        "The argmax EMD of a perfect model that says one answer for each person, drawn from its group's shares.",
    ),
    Column("jsd", "JSD ↓", "Jensen–Shannon divergence between predicted and people's shares, in nats, up to 0.69."),
    Column("js_similarity", "1 − JS ↑", "One minus the Jensen–Shannon distance: what GlobalOpinionQA reports."),
    Column("kl", "KL ↓", "Kullback–Leibler divergence of people's shares from the predicted ones, in nats."),
    Column("macro_f1", "Macro-F1 ↑", "Of the likeliest answers, question by question, then averaged."),
    Column("macro_f1_pooled", "F1, pooled ↑", "The same with all questions' options pooled by place, as in the paper."),
    Column("brier", "Brier ↓", "Squared error of the predicted shares against each person's answer, from 0 to 2."),
    Column("ece", "ECE ↓", "Expected calibration error: how far stated probabilities are from how often they hold."),
    Column(
        "entropy",
        "Entropy",
        "How undecided the prediction is, in nats: 0 is certain, and 0.69 is a coin toss between two options.",
    ),
    Column("entropy_normalised", "Entropy / max", "Entropy over that of all options being equally likely."),
    Column(
        "steerability",
        "Steerability ↑",
        "How much closer to a group's people the answer comes when the model is told who asks (soft EMD saved).",
    ),
    Column("wvb_auc", "WVB AUC ↑", "WorldValuesBench's: one minus its EMD, over all people together."),
    Column("wvb_near", "WVB near ↑", "WorldValuesBench's share of questions with an EMD of up to 0.2; a description."),
)
"""The other metrics, for who wants them; a column without any figure is left out."""
MORE_KEYS = frozenset(column.key for column in MORE_COLUMNS)


def comparison_table(
    runs: Sequence[Path], *, reference: str | None = None, draws: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Every method on seen and on unseen groups, recomputed from the runs' predictions.

    One row per side × method: side, name, label, role ("reference" | "rival" | "control" | "anchor"); each metric with
    _low and _high (95 %); difference and spread_difference from the reference with _low and _high (missing when there
    is none), and of the former p and p_holm; groups, people, design_effect (in words), trainable_parameters, seconds;
    trained (on these data). A method that predicts nothing for a side has no row there, nor has a side of under 11
    people any.
    RunError or BenchmarkError if the runs cannot be compared.
    """
    return compare_methods(read_evidence(runs, reference), draws=draws, seed=seed)


def compare_methods(evidence: Evidence, *, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """`comparison_table` of runs that are already read."""
    sides = shown_sides(evidence)
    if not sides:  # only replies, or too few people
        nothing = {"seen": {}, "n": {"seen": {"groups": 0}}}
        return pd.DataFrame([_row("seen", evidence.methods[0], nothing, {})])[:0]
    comparison = compared_scores(evidence, draws, seed)
    rows = []
    for side in sides:
        for method in evidence.methods:
            score = comparison["scores"][method.name]
            if side in score:
                differences = comparison["differences"].get(method.name, {}).get(side, {})
                rows.append({**_row(side, method, score, differences), "trained": trained_here(evidence, method)})
    return pd.DataFrame(rows)


def trained_here(evidence: Evidence, method: Method) -> bool:
    """Whether a model was trained on these data: not one that is only measured, prompted, or trained on others."""
    sources = method.info.get("licences") or {evidence.benchmark: ""}
    groups = method.info.get("population", {}).get("groups")
    seen = set(evidence.people.loc[evidence.people["seen"].astype(bool), "group"])
    other = bool(groups and seen) and seen.isdisjoint(groups)  # other data of the same name
    return method.info["kind"] == "trained" and evidence.benchmark in sources and not other


@lru_cache(maxsize=1)
def compared_scores(evidence: Evidence, draws: int, seed: int) -> dict[str, Any]:
    """`score_many` of all methods; of the same evidence, once for all parts of a page."""
    reference = evidence.reference.name if evidence.reference else None
    return score_many(
        evidence.tables, evidence.questions, reference=reference, draws=draws, seed=seed, design=evidence.design
    )


def shown_sides(evidence: Evidence) -> list[Side]:
    """The sides whose figures may be shown."""
    parts = {side: evidence.people[evidence.people["seen"] == (side == "seen")] for side in SIDES}
    return [side for side, people in parts.items() if len(people) and not too_few(people)]


def _row(side: Side, method: Method, score: dict[str, Any], differences: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"side": side, "name": method.name, "label": method.label, "role": method.role}
    for metric in METRICS:
        row |= _triple(metric, score[side].get(metric, UNKNOWN))
    for metric in COMPARED:
        name = "difference" if metric == "soft_emd" else f"{metric}_difference"
        row |= _triple(name, differences.get(metric, UNKNOWN))
    row |= {key: _known(differences.get("soft_emd", {}).get(key)) for key in ("p", "p_holm")}
    seconds = method.info.get("seconds")
    return row | {
        "groups": score["n"][side]["groups"],
        "people": _known(score["n"][side].get("people")),
        "questions": score["n"][side].get("questions", MISSING),
        "design_effect": effect_text(score["n"][side].get("design_effect")),
        "new": method.corners is not None and not method.corners[ITEM_SEEN].all(),
        "trainable_parameters": _known(method.info.get("trainable_parameters")),
        "seconds": _known(sum(seconds.values()) if seconds else None),
    }


def _triple(name: str, numbers: dict[str, float | None]) -> dict[str, float]:
    endings = (("", "value"), ("_low", "low"), ("_high", "high"))
    return {name + ending: _known(numbers[key]) for ending, key in endings}


def _known(value: float | None) -> float:
    return math.nan if value is None else float(value)


def estimate(row: pd.Series, name: str) -> dict[str, float]:
    """A figure of the table and the ends of its 95 % interval; NaN where there is none."""
    return {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}


def interval(row: pd.Series, name: str, digits: int = 3, *, sign: bool = False) -> str:
    """A figure's 95 % interval, "low to high"; empty when there is none."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "" if math.isnan(low) else f"{number(low, digits, sign=sign)} to {number(high, digits, sign=sign)}"


def shown_columns(table: pd.DataFrame, columns: tuple[Column, ...] = COLUMNS) -> tuple[Column, ...]:
    """The columns with headings filled in; without a reference the difference is left out, as are empty metrics."""
    reference = table.loc[table["role"] == "reference", "label"]
    label = "" if reference.empty else reference.iloc[0]
    of_shares = bool(table["people"].isna().all())
    without = {column.key for column in MORE_COLUMNS} | ({"accuracy", "noise_floor"} if of_shares else set())
    hidden = {key for key in without if table[key].isna().all()}
    hidden |= {"difference", "p_holm"} if reference.empty else set()
    items_drawn = of_shares or bool(table["new"].any())
    return tuple(column.filled(label, items_drawn) for column in columns if column.key not in hidden)


def cell_text(row: pd.Series, key: str) -> str:
    """One cell as text, as the page, the terminal and Markdown all show it."""
    if key in ("trainable_parameters", "seconds"):
        return MISSING if math.isnan(row[key]) else f"{row[key]:,.0f}"
    if key == "p_holm":
        return p_text(row[key])
    if key == "difference":
        return estimate_text(estimate(row, key), sign=True)
    digits = 3 if key.endswith("emd") or key in THREE_DIGITS else 2
    bracketed = key == "soft_emd" or key in MORE_KEYS
    text = estimate_text(estimate(row, key), digits) if bracketed else number(row[key], digits)
    if key == "option_mass" and row[key] < LOW_OPTION_MASS:
        text += " ⚠"
    return text


def few_sentences(evidence: Evidence) -> list[str]:
    """One for every side of too few people to be shown."""
    sizes = evidence.people.groupby("seen").size() if len(evidence.people) else {}
    few = [side for side in SIDES if (side == "seen") in sizes and side not in shown_sides(evidence)]
    return [f"Of {side} groups {people_text(0)} people were tested, so that no figure is shown." for side in few]


def side_title(table: pd.DataFrame, side: Side) -> str:
    """The caption of one table: "Seen groups: 50 groups, 6,912 people"."""
    rows = table[table["side"] == side]
    groups, people = int(rows["groups"].iloc[0]), rows["people"].iloc[0]
    plural = "group" if groups == 1 else "groups"
    new = "new " if rows["new"].iloc[0] else ""
    of = f"{rows['questions'].iloc[0]} {new}questions" if math.isnan(people) else f"{people_text(int(people))} people"
    effect = rows["design_effect"].iloc[0]
    return f"{side.capitalize()} groups: {groups} {plural}, {of}" + (f", {effect}" if effect else "")
