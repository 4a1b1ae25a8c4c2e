"""Every metric on cells: means over a group's questions and then over groups, or over all answers together."""

from __future__ import annotations

import numpy as np
from scipy.special import entr, rel_entr

from cuma.metrics.cell_sums import CellPredictions, Cells
from cuma.metrics.pairs import pairwise_jsd_sum
from cuma.metrics.pointwise import Floats, emd_unchecked
from cuma.metrics.sample import Item
from cuma.metrics.spread import correlation, positions

BOUNDS: dict[str, tuple[float, float]] = {
    "soft_emd": (0.0, 1.0),
    "noise_floor": (0.0, 1.0),
    "argmax_emd": (0.0, 1.0),
    "sampler_floor": (0.0, 1.0),
    "jsd": (0.0, float(np.log(2))),
    "js_similarity": (0.0, 1.0),
    "kl": (0.0, np.inf),
    "accuracy": (0.0, 1.0),
    "macro_f1": (0.0, 1.0),
    "macro_f1_pooled": (0.0, 1.0),
    "entropy": (0.0, np.inf),
    "entropy_normalised": (0.0, 1.0),
    "brier": (0.0, 2.0),
    "ece": (0.0, 1.0),
    "option_mass": (0.0, 1.0),
    "spread": (0.0, np.inf),
    "alignment": (-1.0, 1.0),
    "steerability": (-1.0, 1.0),
    "wvb_emd": (0.0, 1.0),
    "wvb_auc": (0.0, 1.0),
    "wvb_near": (0.0, 1.0),
}
"""Every metric, and where it can lie; intervals are cut there."""
METRICS = tuple(BOUNDS)
SQUARED = ("jsd", "kl")
"""Metrics that are skewed like squares."""
DESCRIPTIVE = ("wvb_near",)
"""Metrics without an interval: a share of few questions jumps, and no resampling of groups says by how much."""
BETWEEN_GROUPS = ("spread", "alignment")
"""Metrics that one group alone does not have."""

Columns = list[tuple[Item, slice]]

LEAST = 1e-6
"""In `kl`, a smaller probability counts as this one: "never" costs 14 nats, and not infinitely many."""
NEAR = 0.2
"""WorldValuesBench counts the questions whose EMD is at most this."""
ROUNDING = 1e-12


def cell_emd(cells: Cells, predicted: Floats) -> Floats:
    """Soft EMD [Q, S, B] of each cell's `predicted` [K, S, B] to people's answers."""
    return _emd(cells.scales(), cells.observed, predicted)


def _emd(scales: Columns, observed: Floats, predicted: Floats) -> Floats:
    return np.stack([emd_unchecked(predicted[k] - observed[k], scale.ordinal, axis=0) for scale, k in scales])


def distances(
    scales: Columns, observed: Floats, predicted: Floats, greedy: Floats, unsteered: Floats | None
) -> dict[str, Floats]:
    """The metrics [Q, …] between distributions [K, …], options of all questions laid side by side.

    scales: each question with its columns among the K. greedy: the likeliest answer as a distribution. unsteered: what
    is said when it is not told who asks; None: not measured.
    """
    each = rel_entr(observed, np.maximum(predicted, LEAST))
    middle = observed + predicted
    between = (rel_entr(2 * observed, middle) + rel_entr(2 * predicted, middle)) / 4
    jsd = np.stack([np.maximum(between[k].sum(axis=0), 0.0) for _, k in scales])
    soft = _emd(scales, observed, predicted)
    values = {
        "soft_emd": soft,
        "argmax_emd": _emd(scales, observed, greedy),
        "jsd": jsd,
        "js_similarity": 1 - np.sqrt(jsd),
        "kl": np.stack([np.maximum(each[k].sum(axis=0), 0.0) for _, k in scales]),
    }
    if unsteered is not None:  # how much closer to the group's people telling who asks brings the answer
        values["steerability"] = _emd(scales, observed, np.broadcast_to(unsteered, observed.shape)) - soft
    return values


def cell_values(cells: Cells, answers: CellPredictions) -> dict[str, Floats]:
    """The metrics that every cell has by itself, [Q, S, B]; formulas in `cuma.metrics.pointwise`."""
    scales = cells.scales()
    widest = np.log([len(scale.options) for scale, _ in scales])[:, None, None]
    return distances(scales, cells.observed, answers.predicted, answers.greedy, answers.unsteered) | {
        "accuracy": answers.hits,
        "entropy": answers.entropy,
        "entropy_normalised": answers.entropy / widest,
        "brier": answers.brier,
        "option_mass": answers.mass,
    }


def group_means(values: Floats, n: Floats) -> Floats:
    """[S, B]: the mean of `values` [Q, S, B] over each group's answered questions; 0 for a group without any."""
    there = (n > 0).astype(np.float64)
    return np.asarray((values * there).sum(axis=0) / np.maximum(there.sum(axis=0), 1.0))


def group_mean(values: Floats, n: Floats, weight: Floats) -> Floats:
    """[B]: `group_means`, and of these the mean over groups by `weight` [S, B]."""
    kept = weight * (n > 0).any(axis=0)
    return np.asarray((group_means(values, n) * kept).sum(axis=0) / kept.sum(axis=0))


def pair_sum(cells: Cells, shares: Floats, weight: Floats) -> Floats:
    """[B]: Σ over questions and pairs of non-empty groups of JSD between `shares` [K, S, B], pairs weighted w_i w_j."""
    parts = [
        pairwise_jsd_sum(shares[k], weight * (cells.n[number] > 0)) for number, (_, k) in enumerate(cells.scales())
    ]
    return np.asarray(sum(parts))


def pooled(cells: Cells, answers: CellPredictions, weight: Floats) -> dict[str, Floats]:
    """The metrics [B] over all people together, whatever their group: F1, calibration, and WorldValuesBench's."""
    n = cells.n * weight
    per_option = n[cells.people.column_question]
    told, gave, right = (
        (per_option * shares).sum(axis=1) for shares in (answers.greedy, cells.observed, answers.correct)
    )  # [K, B]
    total = n.sum(axis=1)  # [Q, B]
    found: dict[str, list[Floats]] = {"f1": [], "emd": []}
    options = max(len(scale.options) for scale, _ in cells.scales())
    by_place = np.zeros((3, options, total.shape[1]))
    for number, (scale, k) in enumerate(cells.scales()):
        found["f1"].append(_macro_f1(told[k], gave[k], right[k]))
        by_place[:, : len(scale.options)] += np.stack([told[k], gave[k], right[k]])
        safe = np.where(total[number] > 0, total[number], 1.0)
        found["emd"].append(emd_unchecked((told[k] - gave[k]) / safe, scale.ordinal, axis=0))
    asked = total > 0
    emd = np.stack(found["emd"])
    questions = asked.sum(axis=0)
    mean_emd = (emd * asked).sum(axis=0) / questions
    calibration = (answers.calibration * weight).sum(axis=1)
    return {
        "macro_f1": (np.stack(found["f1"]) * asked).sum(axis=0) / questions,
        "macro_f1_pooled": _macro_f1(*by_place),
        "ece": np.abs(calibration).sum(axis=0) / total.sum(axis=0),
        "wvb_emd": mean_emd,
        # The area under "share of questions with an EMD up to t" over t in [0, 1].
        "wvb_auc": 1 - mean_emd,
        "wvb_near": ((emd <= NEAR + ROUNDING) & asked).sum(axis=0) / questions,
    }


def _macro_f1(told: Floats, gave: Floats, right: Floats) -> Floats:
    """[B]: mean F1 over the options [m, B] that were told or given by anybody, as scikit-learn's macro average."""
    there = (told + gave) > 0
    f1 = np.where(there, 2 * right / np.where(there, told + gave, 1.0), 0.0)
    return np.asarray(f1.sum(axis=0) / np.maximum(there.sum(axis=0), 1))


def _alignment(cells: Cells, answers: CellPredictions, weight: Floats) -> Floats:
    predicted, observed, weights = [], [], []
    for number, (scale, k) in enumerate(cells.scales()):
        model = positions(answers.predicted[k], scale.ordinal)
        predicted.append(model)
        observed.append(positions(cells.observed[k], scale.ordinal))
        weights += [weight * (cells.n[number] > 0)] * len(model)
    return correlation(np.concatenate(predicted), np.concatenate(observed), np.stack(weights))


def measure(
    cells: Cells,
    answers: CellPredictions,
    weight: Floats,
    floors: tuple[Floats, Floats],
    said: Floats,
    diversity: Floats,
) -> dict[str, Floats]:
    """Every metric [B], groups weighted by `weight` [S, B]; NaN where one is not defined.

    floors: each cell's noise floor and sampler floor, [Q, S, B or 1]. said, diversity: [B], the spread's numerator
    (`pair_sum` of the predictions) and denominator; where that is not positive, people's groups do not differ and the
    spread is NaN.
    """
    differ = diversity > 0
    values = cell_values(cells, answers) | {"noise_floor": floors[0], "sampler_floor": floors[1]}
    found = {name: group_mean(value, cells.n, weight) for name, value in values.items()}
    found |= pooled(cells, answers, weight)
    found["spread"] = np.where(differ, said / np.where(differ, diversity, 1.0), np.nan)
    found["alignment"] = _alignment(cells, answers, weight)
    nowhere = np.full_like(found["spread"], np.nan)
    return {name: found.get(name, nowhere) for name in METRICS}


def people_entropy(shares: Floats, n: Floats) -> Floats:
    """Entropy [S] in nats of observed shares [m, S] of n [S] answers, with Miller and Madow's correction of its bias,
    (options that occur - 1) / 2n."""
    occur = (shares > 0).sum(axis=0)
    plain = entr(shares).sum(axis=0)
    return np.minimum(plain + np.maximum(occur - 1, 0) / (2 * np.maximum(n, 1.0)), np.log(len(shares)))
