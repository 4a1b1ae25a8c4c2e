"""Measures of how well predictions represent groups of people: pure functions on arrays and tables, without torch."""

from cuma.metrics.breakdown import break_down
from cuma.metrics.length_control import length_controlled_win_rate
from cuma.metrics.measure import METRICS
from cuma.metrics.noise import chance_diversity, noise_floor, sampler_floor
from cuma.metrics.pointwise import (
    LOW_OPTION_MASS,
    accuracy,
    brier,
    distinct_n,
    ece,
    emd,
    entropy,
    js_distance,
    js_similarity,
    jsd,
    kl,
    low_option_mass,
    macro_f1,
    normalised_entropy,
)
from cuma.metrics.scores import compare, score, score_many
from cuma.metrics.spread import alignment, spread

__all__ = [
    "LOW_OPTION_MASS",
    "METRICS",
    "accuracy",
    "alignment",
    "break_down",
    "brier",
    "chance_diversity",
    "compare",
    "distinct_n",
    "ece",
    "emd",
    "entropy",
    "js_distance",
    "js_similarity",
    "jsd",
    "kl",
    "length_controlled_win_rate",
    "low_option_mass",
    "macro_f1",
    "noise_floor",
    "normalised_entropy",
    "sampler_floor",
    "score",
    "score_many",
    "spread",
]
