"""How likely a model finds what people wrote and preferred, by group: loss, perplexity, preference accuracy.

Everything is a ratio of sums over people, so that people can be drawn: a person's rows stay together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cuma.metrics.choice_scores import at_the_edge
from cuma.metrics.inference import entry, estimate, holm, interval, p_value, student_deviations
from cuma.metrics.pointwise import Floats
from cuma.privacy.small_groups import hidden

DRAWS = 1000
SHARE = (0.0, 1.0)


@dataclass(frozen=True)
class ReplyFigure:
    """A figure: the sum of one thing over the sum of another."""

    task: str
    """Of which rows."""
    parts: Callable[[pd.DataFrame], tuple[Floats, Floats]]
    """Rows → what is summed above and below, [N] each."""
    worst: Callable[..., Floats]
    """max or min over groups [G, B]: which is the worst served."""
    bounds: tuple[float, float]


def _loss(rows: pd.DataFrame) -> tuple[Floats, Floats]:
    return -rows["own"].to_numpy(float), rows["tokens"].to_numpy(float)


def _accuracy(rows: pd.DataFrame) -> tuple[Floats, Floats]:
    return _wins(rows["own"] - rows["reference"] - rows["own_rejected"] + rows["reference_rejected"])


def _likelier(rows: pd.DataFrame) -> tuple[Floats, Floats]:
    return _wins(rows["own"] - rows["own_rejected"])


def _wins(margin: pd.Series) -> tuple[Floats, Floats]:
    """A tie counts half."""
    return (np.sign(margin.to_numpy(float)) + 1) / 2, np.ones(len(margin))


FIGURES: dict[str, ReplyFigure] = {
    "loss": ReplyFigure("sft", _loss, np.max, (0.0, np.inf)),
    "preference_accuracy": ReplyFigure("dpo", _accuracy, np.min, SHARE),
    "likelier": ReplyFigure("dpo", _likelier, np.min, SHARE),
}
"""loss: nats per token of the reply, tokens counting alike. preference_accuracy: share of pairs whose implicit reward,
log p(chosen) - log p(rejected) less the reference's (Rafailov et al. 2023, eq. 5, without the factor beta, on which no
sign depends), is above 0. likelier: the same without the reference."""


def reply_scores(table: pd.DataFrame, draws: int = DRAWS, seed: int = 0) -> dict[str, Any]:
    """Every figure of each side, and by group, with 95 % intervals over people.

    Args:
        table: a row for each conversation and pair: task, person, group, seen; own and reference, the log-probability
            of the reply (of a pair: of the chosen one) under the model and the untouched one; tokens, its length; and
            of pairs own_rejected and reference_rejected.
        draws: of people; of each group for its own figures.
        seed: of the draws.

    Returns:
        Side ("seen", "unseen") → figure → {"value", "low", "high", "n": {"people", "rows", "groups"}, "by_group": group
        → {"n": people, "value", …}, "worst": {"group", "value", …}, "gap": {"best", "value", …}}; and "perplexity",
        exp of the loss, in the same form without worst and gap. Groups of fewer than 11 people, and those that would
        give them away, are in no entry of their own, and neither worst nor best.
    """
    sides: dict[str, Any] = {}
    for side, figure, rows in _parts(table):
        entries = _figure(FIGURES[figure], rows, draws, seed)
        sides.setdefault(side, {})[figure] = entries
        if figure == "loss":
            by_group = {group: {**of, **_exponential(of)} for group, of in entries["by_group"].items()}
            sides[side]["perplexity"] = {**_exponential(entries), "n": entries["n"], "by_group": by_group}
    return sides


def reply_differences(
    table: pd.DataFrame, others: Mapping[str, pd.DataFrame], draws: int = DRAWS, seed: int = 0
) -> dict[str, Any]:
    """Every figure of a model minus each other one's, on the same draws of the same people.

    others: name → the other's table, of the very same rows in the same order. A loss is compared only where both have
    as many tokens in every row.

    Returns {name: {side: {figure: {"value", "low", "high", "p", "p_holm", "by_group": {group: {"value", …}}}}}}; p_holm
    is corrected for the number of others, by figure and side.
    """
    found: dict[str, Any] = {name: {} for name in others}
    for side, figure, rows in _parts(table):
        about, tests = FIGURES[figure], {}
        shown = _shown(rows)
        for name, other in others.items():
            theirs = other.loc[rows.index]
            if about.task == "sft" and (theirs["tokens"] != rows["tokens"]).any():
                continue
            value, drawn = _difference(about, rows, theirs, draws, seed)
            deviations = _scatter(value, drawn, rows["person"].nunique())
            by_group = {group: _group_difference(about, its, theirs, draws, seed) for group, its in shown.items()}
            tests[name] = {**estimate(value, deviations), "p": p_value(value, deviations), "by_group": by_group}
            found[name].setdefault(side, {})[figure] = tests[name]
        _adjust(list(tests.values()))
    return found


def _parts(table: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Side, figure and its rows, where there are any."""
    parts = []
    for side, seen in (("seen", True), ("unseen", False)):
        for name, figure in FIGURES.items():
            rows = table[(table["seen"] == seen) & (table["task"] == figure.task)]
            parts += [(side, name, rows)] if len(rows) else []
    return parts


def _shown(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Group → its rows, of those that may be shown."""
    groups = {str(group): its for group, its in rows.groupby("group", sort=True)}
    gone = hidden({group: its["person"].nunique() for group, its in groups.items()})
    return {group: its for group, its in groups.items() if group not in gone}


def _figure(figure: ReplyFigure, rows: pd.DataFrame, draws: int, seed: int) -> dict[str, Any]:
    groups, people = _shown(rows), rows["person"].nunique()
    whole = _drawn(figure.parts(rows), rows["person"], draws, seed)
    n = {"people": people, "rows": len(rows), "groups": rows["group"].nunique()}
    entries = {**_entry(figure, *whole, people), "n": n}
    own = {
        name: _drawn(figure.parts(its), its["person"], draws, seed + place)
        for place, (name, its) in enumerate(groups.items(), start=1)
    }
    sizes = {name: its["person"].nunique() for name, its in groups.items()}
    by_group = {name: {"n": sizes[name], **_entry(figure, *own[name], sizes[name])} for name in own}
    return {**entries, "by_group": by_group, **_inequality(figure, own, min(sizes.values(), default=0))}


def _entry(figure: ReplyFigure, value: float, replicates: Floats, people: int) -> dict[str, Any]:
    """An estimate with its interval. Of a share of 0 or 1, draws of people cannot show anything else: it is exact."""
    edge = at_the_edge(value, people) if figure.bounds == SHARE and people > 1 else None
    return entry(value, edge or interval(value, student_deviations(value, replicates, people)), figure.bounds)


def _inequality(figure: ReplyFigure, own: Mapping[str, tuple[float, Floats]], fewest: int) -> dict[str, Any]:
    """The worst served group and its distance from the best; nothing of fewer than two groups, or of groups that are
    alike. Groups are kept, and their people drawn. Sampling noise inflates both."""
    names, values = list(own), np.array([value for value, _ in own.values()])
    if len(own) < 2 or not np.ptp(values):
        return {}
    drawn = np.stack([replicates for _, replicates in own.values()])
    worst, gap = float(figure.worst(values)), float(np.ptp(values))
    place = int(np.flatnonzero(values == worst)[0])
    best = int(np.abs(values - worst).argmax())
    return {
        "worst": {"group": names[place], **_entry(figure, worst, figure.worst(drawn, axis=0), fewest)},
        "gap": {"best": names[best], **estimate(gap, _scatter(gap, np.ptp(drawn, axis=0), fewest), figure.bounds)},
    }


def _drawn(parts: tuple[Floats, Floats], person: pd.Series, draws: int, seed: int) -> tuple[float, Floats]:
    """The figure, and [B] of it over draws of people."""
    above, below = _per_person(parts, person)
    times = _times(len(above), draws, seed)
    return float(above.sum() / below.sum()), (times @ above) / (times @ below)


def _per_person(parts: tuple[Floats, Floats], person: pd.Series) -> tuple[Floats, Floats]:
    code, names = pd.factorize(person)
    above, below = (np.asarray(np.bincount(code, part, len(names)), dtype=np.float64) for part in parts)
    return above, below


def _times(people: int, draws: int, seed: int) -> Floats:
    """[B, P]: how often each person is in each draw."""
    return np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), size=draws).astype(float)


def _difference(
    figure: ReplyFigure, rows: pd.DataFrame, theirs: pd.DataFrame, draws: int, seed: int
) -> tuple[float, Floats]:
    value, replicates = _drawn(figure.parts(rows), rows["person"], draws, seed)
    other, drawn = _drawn(figure.parts(theirs), rows["person"], draws, seed)
    return value - other, replicates - drawn


def _group_difference(
    figure: ReplyFigure, rows: pd.DataFrame, theirs: pd.DataFrame, draws: int, seed: int
) -> dict[str, Any]:
    value, drawn = _difference(figure, rows, theirs.loc[rows.index], draws, seed)
    people = rows["person"].nunique()
    return {"n": people, **estimate(value, _scatter(value, drawn, people))}


def _scatter(value: float, replicates: Floats, people: int) -> Floats | None:
    """`student_deviations`; None of what is not 0 and the same in every draw, such as shares of 1 and 0: other people
    might differ, and drawing these again cannot show it."""
    return None if value and not np.ptp(replicates) else student_deviations(value, replicates, people)


def _adjust(tests: list[dict[str, Any]]) -> None:
    """Sets p_holm."""
    known = [test for test in tests if test["p"] is not None]
    for test in tests:
        test["p_holm"] = None
    for test, p in zip(known, holm([test["p"] for test in known]), strict=True):
        test["p_holm"] = p


def _exponential(loss: Mapping[str, Any]) -> dict[str, Any]:
    ends = {name: loss[name] for name in ("value", "low", "high")}
    return {name: None if end is None else float(np.exp(end)) for name, end in ends.items()}
