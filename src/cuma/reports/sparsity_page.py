"""`cuma data sparsity`: is there anything to keep apart here? sparsity.json, and a page with a heat map."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from plotly.offline import get_plotlyjs
from scipy.stats import false_discovery_control
from tqdm import tqdm

from cuma.data.folder_design import CARD
from cuma.data.sparsity import MISSING, Answers, read_answers
from cuma.data.surveys.item_splits import roles_sentence
from cuma.errors import BenchmarkError
from cuma.metrics.group_distances import (
    PermutationTest,
    chance_jsd,
    clusters,
    joint_mahalanobis,
    permutation_test,
    question_mahalanobis,
    value_space,
)
from cuma.metrics.items import Item
from cuma.metrics.pointwise import pairwise_jsd
from cuma.metrics.sample import Sample
from cuma.privacy.small_groups import MIN_PEOPLE, hidden
from cuma.reports.templating import STYLE, html_environment, page_json, template_text
from cuma.runs.folder import write_json, write_text

LEVEL = 0.05
"""p-values up to this, adjusted over the questions, count as a difference."""
SHOWN_QUESTIONS = 15
WEAK = 0.25
"""Below this silhouette groups lie on a slope, rather than in clusters."""


def sparsity(folder: Path, output: Path, permutations: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Measure a built folder's groups and write sparsity.json and sparsity.html into `output`.

    Args:
        folder: what `cuma data build` wrote, with survey answers or distributions.
        output: a folder; may be the same.
        permutations: of people over groups, per question. The smallest p-value is 1 / (permutations + 1).
        seed: of the permutations.

    Returns:
        What sparsity.json holds, plain types; JSD in nats. Matrices are groups × groups, in the order of "groups".

    Raises:
        BenchmarkError: no answers to read, or fewer than two groups of 11 people.
        RunError: `output` cannot be written.
    """
    result = measure(read_answers(folder), permutations, seed)
    card = Path(folder) / CARD
    if card.exists() and (items := json.loads(card.read_text(encoding="utf-8")).get("items")):
        result["summary"].append(roles_sentence(items))
    write_json(Path(output) / "sparsity.json", result)
    write_text(Path(output) / "sparsity.html", render(result, Path(folder).resolve().name))
    return result


def measure(answers: Answers, permutations: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Everything that sparsity.json holds."""
    if permutations < 1:
        raise BenchmarkError(f"--permutations is {permutations}. Give at least 1; 1000 is usual.")
    answers, left_out = _shown(answers)
    if len(answers.groups) < 2:
        raise BenchmarkError(
            f"Only {len(answers.groups)} group(s) with at least {MIN_PEOPLE} people and answers are left "
            f"({left_out} left out). Nothing can be compared; build with larger groups."
        )
    size, people = len(answers.groups), answers.shares is None
    per_question, tests, distances, beyond, compared = [], [], [], [], []
    worth = _worth(answers)
    for number, question in enumerate(tqdm(answers.questions, desc="comparing groups", unit=" questions", leave=False)):
        table = _table(answers, number)
        n = table.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            jsd = pairwise_jsd(np.where(n[:, None] > 0, table / n[:, None], np.nan).T)
        drawn = table if worth is None else worth[number]
        test = permutation_test(drawn, permutations, (seed, number)) if people else PermutationTest(0.0, 0.0, 1.0)
        pairs = np.isfinite(jsd[np.triu_indices(size, 1)]).sum()
        if not pairs:
            continue
        above = jsd - chance_jsd(drawn, test.chance) if people else jsd
        np.fill_diagonal(above, 0.0)
        square, rank = question_mahalanobis(table, question.ordinal, people)
        tests.append(test)
        distances.append(np.sqrt(jsd))
        beyond.append(above)
        compared.append(question)
        per_question.append(_entry(question, table, above, square, rank))
    if not compared:
        raise BenchmarkError("No question was answered by two groups: nothing can be compared.")
    p = false_discovery_control([test.p for test in tests]) if people else [None] * len(tests)
    for entry, test, value in zip(per_question, tests, p, strict=True):
        entry["p"] = test.p if people else None
        entry["p_adjusted"] = None if value is None else float(value)
    overall = float(min(p)) if people else None
    result = _result(answers, left_out, per_question, np.stack(distances), np.stack(beyond), overall) | {
        "permutations": permutations if people else None,
        "lone_question": min(1.0, len(compared) / (permutations + 1)) if people else None,
        "seed": seed,
        "design": None if answers.design is None else answers.design.facts(),
    }
    return {"summary": _summary(result), **result}


def _shown(answers: Answers) -> tuple[Answers, int]:
    """The groups that may be shown, and how many may not. Cells (group × question) of few people are emptied."""
    if answers.shares is not None:
        return answers, 0
    there = (answers.coded != MISSING).any(axis=1)
    sizes = np.bincount(answers.group[there], minlength=len(answers.groups))
    named = {name: int(n) for name, n in zip(answers.groups, sizes, strict=True) if n}
    gone = hidden(named)
    kept = [number for number, name in enumerate(answers.groups) if name in named and name not in gone]
    place = np.full(len(answers.groups), -1)
    place[kept] = np.arange(len(kept))
    rows = there & (place[answers.group] >= 0)
    group, coded = place[answers.group[rows]], answers.coded[rows].copy()
    for number in range(coded.shape[1]):
        few = np.bincount(group[coded[:, number] != MISSING], minlength=len(kept)) < MIN_PEOPLE
        coded[few[group], number] = MISSING
    names = tuple(answers.groups[number] for number in kept)
    design = None if answers.design is None else answers.design.at(np.flatnonzero(rows))
    return Answers(answers.questions, names, group, coded, None, design), len(gone)


def _worth(answers: Answers) -> list[np.ndarray] | None:
    """Per question [G, m]: as many people drawn one by one as scatter like the design's, whom the tests permute.

    That is Rao and Scott's first correction (1981). People count alike, as everywhere on the page. None where no design
    is known.
    """
    if answers.design is None:
        return None
    order = np.argsort(answers.group, kind="stable")
    starts = np.searchsorted(answers.group[order], np.arange(len(answers.groups) + 1))
    person, even = np.arange(len(order)), np.ones(len(order))
    design = replace(answers.design, person=np.arange(len(order)))
    people = Sample(answers.questions, answers.groups, starts, person, answers.coded[order], even, design.at(order))
    return [counts.astype(np.float64) for counts in people.effective_counts]


def _table(answers: Answers, number: int) -> np.ndarray:
    """Counts [G, m] of one question, or shares where there are no people; zeros where a group was not asked."""
    if answers.shares is not None:
        return np.nan_to_num(answers.shares[number])
    size, options = len(answers.groups), len(answers.questions[number].options)
    code = answers.coded[:, number]
    there = code != MISSING
    flat = np.bincount(answers.group[there] * options + code[there], minlength=size * options)
    return flat.reshape(size, options).astype(np.float64)


def _entry(question: Item, table: np.ndarray, above: np.ndarray, square: np.ndarray, rank: int) -> dict[str, Any]:
    upper = np.triu_indices(len(above), 1)
    pairs, squares = above[upper], square[upper]
    widest = int(np.nanargmax(pairs))
    return {
        "question_id": question.id,
        "question": question.text,
        "options": list(question.options),
        "ordinal": question.ordinal,
        "groups": int((table.sum(axis=1) > 0).sum()),
        "jsd": float(np.nanmean(pairs)),
        "farthest": [int(upper[0][widest]), int(upper[1][widest])],
        "farthest_jsd": float(pairs[widest]),
        "m": rank,
        "mahalanobis": _matrix(square),
        "mahalanobis_mean": _number(np.nanmean(squares)),
        "pairs_beyond_m": _number(np.mean(squares[np.isfinite(squares)] > rank)) if rank else None,
        "jsd_matrix": _matrix(above),
    }


def _result(
    answers: Answers, left_out: int, per_question: list[dict[str, Any]], distances: np.ndarray, beyond: np.ndarray,
    overall: float | None,
) -> dict[str, Any]:  # fmt: skip
    size = len(answers.groups)
    times = np.isfinite(distances).sum(axis=0)
    distance = np.nansum(distances, axis=0) / np.maximum(times, 1)
    distance = (distance + distance.T) / 2
    never = times == 0
    distance[never] = distance[~never].max()
    np.fill_diagonal(distance, 0.0)
    mean = np.where(never, np.nan, np.nansum(beyond, axis=0) / np.maximum(times, 1))
    cluster, order, silhouette = clusters(distance)
    differ = None if overall is None else overall <= LEVEL
    upper = np.triu_indices(size, 1)
    if differ is False or never[upper].any():  # the distance of groups that were never compared is made up
        cluster, silhouette = np.zeros(size, dtype=np.int64), float("nan")
    joint, m = _joint(answers)
    squares = joint[upper][np.isfinite(joint[upper])]
    sizes = None if answers.shares is not None else np.bincount(answers.group, minlength=size).tolist()
    dividing = None if overall is None else sum(entry["p_adjusted"] <= LEVEL for entry in per_question)
    return {
        "groups": list(answers.groups),
        "people": sizes,
        "groups_left_out": left_out,
        "min_people": MIN_PEOPLE,
        "differ": differ,
        "p": overall,
        "questions_that_divide": dividing,
        "pairs_without_a_question": int(never[upper].sum()),
        "jsd": _number(np.nanmean(mean[upper])),
        "jsd_matrix": _matrix(mean),
        "m": m,
        "mahalanobis": _matrix(joint) if m else None,
        "mahalanobis_mean": _number(squares.mean()) if len(squares) else None,
        "pairs_beyond_m": _number((squares > m).mean()) if len(squares) else None,
        "clusters": [int(label) for label in cluster] if np.isfinite(silhouette) else None,
        "silhouette": _number(silhouette),
        "order": [int(place) for place in order],
        "questions": sorted(per_question, key=lambda entry: (-entry["jsd"], entry["question_id"])),
    }


def _joint(answers: Answers) -> tuple[np.ndarray, int]:
    """The criterion over all questions together; dimension 0 where there are no people to take Σ̄ from."""
    size = len(answers.groups)
    if answers.shares is not None:
        return np.full((size, size), np.nan), 0
    columns = []
    for number, question in enumerate(answers.questions):
        code = answers.coded[:, number]
        if len(np.unique(answers.group[code != MISSING])) == size:
            places = value_space(len(question.options), question.ordinal)
            columns.append(np.where((code != MISSING)[:, None], places[code], np.nan))
    if not columns:
        return np.full((size, size), np.nan), 0
    return joint_mahalanobis(np.concatenate(columns, axis=1), answers.group, size)


def _summary(result: dict[str, Any]) -> list[str]:
    """The headline, then what it rests on, in plain words."""
    total, size = len(result["questions"]), len(result["groups"])
    questions = f"{total} question{'' if total == 1 else 's'}"
    jsd = f"{result['jsd']:.3f} nats between two groups (0: alike; 0.693: never alike)"
    scale = f"a mean Jensen–Shannon divergence of {jsd}"
    if result["differ"] is None:
        return [
            "How far the groups lie apart; whether by more than chance cannot be said",
            f"{size} groups, {questions}: {scale}. There are no people in this data, only shares, so that chance can "
            "neither be tested nor taken off.",
            *_cluster_words(result),
        ]
    if not result["differ"]:
        words = [
            "No: nothing to keep apart",
            f"No question divides the {size} groups by more than chance would (p {_p(result)}, {questions}). One "
            "shared adapter loses nothing that these answers could show.",
        ]
        if result["lone_question"] > LEVEL:
            words.append("With so few permutations a single dividing question would have been missed: take more.")
        return words
    divide = result["questions_that_divide"]
    words = [
        "Yes: there is something to keep apart",
        f"{divide} of {questions} divide{'s' if divide == 1 else ''} the {size} groups by more than chance "
        f"(p {_p(result)}), with {scale}, what chance gives taken off.",
        *_cluster_words(result),
    ]
    if result["pairs_beyond_m"] is not None:
        share = result["pairs_beyond_m"]
        words.append(
            f"By the paper’s stricter criterion, over all questions together, {share:.0%} of the pairs of groups lie "
            "further apart than people usually do from their own group’s mean (squared Mahalanobis distance above "
            f"m = {result['m']}); the mean is {result['mahalanobis_mean']:.2f}."
            + (" Groups differ, and their people overlap." if share < 0.05 else "")
        )
    return words


def _cluster_words(result: dict[str, Any]) -> list[str]:
    if result["clusters"] is None:
        never = result["pairs_without_a_question"]
        return [f"{never:,} pairs of groups answered no question in common, so that no clusters are told."] * bool(
            never
        )
    count, silhouette = len(set(result["clusters"])), result["silhouette"]
    weak = ": weak, so that the groups lie on a slope rather than in clusters" if silhouette < WEAK else ""
    return [f"The groups fall into {count} clusters (silhouette {silhouette:.2f}, at most 1{weak})."]


def _p(result: dict[str, Any]) -> str:
    return f"= {result['p']:.3f}" if result["p"] >= 0.001 else "< 0.001"


def render(result: dict[str, Any], name: str) -> str:
    """The page as text: self-contained, and the same for the same input."""
    order = result["order"]
    if result["clusters"] is not None:
        rank = {place: number for number, place in enumerate(order)}
        order = sorted(order, key=lambda place: (result["clusters"][place], rank[place]))
    matrix = result["jsd_matrix"]
    labels = result["groups"]
    data = {
        "groups": [labels[place] for place in order],
        "clusters": None if result["clusters"] is None else [result["clusters"][place] + 1 for place in order],
        "jsd": [[None if a == b or matrix[a][b] is None else round(matrix[a][b], 5) for b in order] for a in order],
    }
    listed: dict[int, list[str]] = {}
    for place in order:
        listed.setdefault(0 if result["clusters"] is None else result["clusters"][place] + 1, []).append(labels[place])
    return (
        html_environment()
        .get_template("sparsity.html.j2")
        .render(
            result=result,
            name=name,
            headline=result["summary"][0],
            sentences=result["summary"][1:],
            shown=result["questions"][:SHOWN_QUESTIONS],
            clusters=listed,
            level=LEVEL,
            data=page_json(data),
            css=template_text(STYLE),
            js=template_text("sparsity.js"),
            plotly=get_plotlyjs(),
        )
    )


def _matrix(values: np.ndarray) -> list[list[float | None]]:
    return [[_number(value) for value in row] for row in values]


def _number(value: Any) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
