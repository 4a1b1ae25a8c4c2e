"""Measures of how well predictions represent groups of people: pure functions on arrays and tables, without torch."""

from cuma.metrics.cells import METRICS
from cuma.metrics.collapse import alignment, spread
from cuma.metrics.noise import chance_diversity, noise_floor
from cuma.metrics.pointwise import (
    LOW_OPTION_MASS,
    accuracy,
    distinct_n,
    emd,
    entropy,
    js_distance,
    jsd,
    low_option_mass,
    macro_f1,
)
from cuma.metrics.scores import compare, score, score_many
from cuma.metrics.win_rate import length_controlled_win_rate

__all__ = [
    "LOW_OPTION_MASS",
    "METRICS",
    "accuracy",
    "alignment",
    "chance_diversity",
    "compare",
    "distinct_n",
    "emd",
    "entropy",
    "js_distance",
    "jsd",
    "length_controlled_win_rate",
    "low_option_mass",
    "macro_f1",
    "noise_floor",
    "score",
    "score_many",
    "spread",
]
