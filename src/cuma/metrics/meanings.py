"""What every figure of scores.json means, in a sentence: for `cuma list metrics` and docs/metrics.md."""

from __future__ import annotations

LOWER, HIGHER, NEITHER = "↓", "↑", ""
"""Whether less or more of it is better."""

MEANINGS: dict[str, tuple[str, str]] = {
    "soft_emd": (
        LOWER, "distance of predicted from people's shares, 0 to 1: Wasserstein-1, or total variation without an order",
    ),
    "noise_floor": (NEITHER, "the soft EMD of a perfect model, from so few people"),
    "argmax_emd": (LOWER, "soft EMD with the likeliest answer for everybody"),
    "sampler_floor": (NEITHER, "the argmax EMD's counterpart: a perfect sampler, one answer for each person"),
    "jsd": (LOWER, "Jensen–Shannon *divergence*, in nats"),
    "js_similarity": (HIGHER, "1 − Jensen–Shannon *distance* (natural logarithms, as scipy): GlobalOpinionQA's score"),
    "kl": (LOWER, "divergence of the prediction from people, in nats; probabilities under 10⁻⁶ count as that"),
    "accuracy": (HIGHER, "share of people whose answer is the likeliest one"),
    "macro_f1": (HIGHER, "over all people, per question and then averaged"),
    "macro_f1_pooled": (HIGHER, "over all people and questions, by the option's place, as in the paper"),
    "entropy": (NEITHER, "of the predictions, in nats"),
    "entropy_normalised": (NEITHER, "of the predictions, divided by ln m"),
    "brier": (LOWER, "Brier score over all options (0 to 2)"),
    "ece": (LOWER, "expected calibration error of the likeliest answer, over all people, ten bins"),
    "option_mass": (HIGHER, "probability of the letters together, before renormalising; under 0.5 it is flagged"),
    "spread": (NEITHER, "how much groups differ, of how much people do; 1 is as much, 0 is mean collapse"),
    "alignment": (HIGHER, "whether groups differ in the direction in which people do; a correlation"),
    "steerability": (HIGHER, "soft EMD when told nothing minus soft EMD when told who asks"),
    "wvb_emd": (LOWER, "WorldValuesBench: argmax EMD per question over all people"),
    "wvb_auc": (HIGHER, "the area under WorldValuesBench's curve over thresholds 0 to 1"),
    "wvb_near": (HIGHER, "share of questions whose WorldValuesBench EMD is at most 0.2; no interval"),
    "worst_group": (LOWER, "the largest soft EMD of a group of at least 11 people; small samples inflate it"),
    "group_gap": (LOWER, "the worst group's soft EMD less the best one's; small samples inflate it"),
    "group_inequity": (LOWER, "standard deviation of the groups' soft EMD (σ-inequity); small samples inflate it"),
}  # fmt: skip
"""Metric → which way is better, and what it is."""
