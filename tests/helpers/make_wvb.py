"""A synthetic wave-7 file of any size, and small metadata in WorldValuesBench's form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

MISSING = {"-1": "Don´t know", "-2": "No answer", "-4": "Not asked", "-5": "Missing; Not available; AU: Other"}
COUNTRIES = {"392": "Japan", "764": "Thailand", "840": "United States", "516": "Namibia", "36": "Australia"}
ABOUT: dict[str, dict[str, str]] = {
    "B_COUNTRY": COUNTRIES,
    "X003R": {"1": "16-24 years", "2": "25-34 years", "6": "65 and over"},
    "Q260": {"1": "Male", "2": "Female"},
    "Q275": {"0": "Early childhood education (ISCED 0) / no education", "6": "Bachelor or equivalent (ISCED 6)"},
    "Q273": {"1": "Married", "6": "Single"},
    "Q289": {"0": "Do not belong to a denomination", "5": "Muslim", "7": "Buddhist"},
    "Q290": {"36001": "AU: Australian (English speaking)", "392001": "JP: Japanese", "36999": "AU: Other"},
    "Q279": {"1": "Full time (30 hours a week or more)", "4": "Retired/pensioned"},
    "H_URBRURAL": {"1": "Urban", "2": "Rural"},
}
AGREE = {"1": "Strongly agree", "2": "Agree", "3": "Disagree", "4": "Strongly disagree"}
DEMOCRACY = {"1": "Not essential", **{str(n): str(n) for n in range(2, 10)}, "10": "Essential"}
VALUES: dict[str, tuple[int, int, dict[str, str]]] = {
    "Q1": (1, 4, {"1": "Very important", "2": "Rather  important", "3": "Not very important", "4": "Not at all"}),
    "Q56": (1, 3, {"1": "Better off", "2": "Worse off", "3": "Or about the same"}),
    "Q94": (0, 2, {"0": "Don't belong", "1": "Inactive member", "2": "Active member"}),
    "Q111": (1, 2, {"1": "Protect environment", "2": "Economic growth", "3": "Other answer"}),
    "Q119": (1, 5, {"0": "Hard to say", **AGREE}),
    "Q240": (1, 10, {"1": "Left", **{str(n): str(n) for n in range(2, 10)}, "10": "Right"}),
    "Q241": (1, 10, {"0": "It is against democracy (spontaneous)", **DEMOCRACY}),
    "Q254": (
        1,
        4,
        {"1": "Very proud", "2": "Quite", "3": "Not very", "4": "Not at all", "5": "I am not [nationality]"},
    ),
}
ADJUSTMENT = {
    "Q56": {"2": "3", "3": "2"},
    "Q111": {"3": ""},
    "Q119": {"0": "3", "3": "4", "4": "5"},
    "Q241": {"0": "1"},
    "Q254": {"5": ""},
}


def write_metadata(folder: Path) -> None:
    """Metadata of nine profile columns and eight value questions, five of them of the mismatched kinds."""
    questions: dict[str, Any] = {}
    codebook: dict[str, Any] = {"D_INTERVIEW": {"question": "Interview", "type": "objective", "choices": {}}}
    for name, choices in ABOUT.items():
        questions[name] = _question(f"What of {name}?", "demographic", "", "")
        codebook[name] = {"question": name, "type": "multiple_choice", "choices": {**choices, **MISSING}}
    questions["D_INTERVIEW"] = _question("What is the unique ID?", "demographic", "", "")
    for name, (low, high, choices) in VALUES.items():
        questions[name] = _question(f"On a scale of {low} to {high}, what about {name}? ", "value", low, high)
        codebook[name] = {"question": name, "type": "multiple_choice", "choices": {**choices, **MISSING}}
    for file, content in {
        "question_metadata.json": questions,
        "codebook.json": codebook,
        "answer_adjustment.json": ADJUSTMENT,
    }.items():
        (folder / file).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _question(text: str, use: str, low: int | str, high: int | str) -> dict[str, Any]:
    kind = "ordinal" if use == "value" else "non_ordinal"
    return {
        "question": text,
        "category": "A category",
        "use_case": use,
        "answer_scale_min": low,
        "answer_scale_max": high,
        "answer_data_type": kind,
    }


def write_full_size(
    folder: Path, people: int, questions: dict[str, Any], codebook: dict[str, Any], seed: int = 0, columns: int = 540
) -> Path:
    """A wave-7 CSV with `columns` columns, of them every question of the metadata, and codes drawn at random.

    One answer in twelve is missing. Nobody's D_INTERVIEW occurs twice.
    """
    rng = np.random.default_rng(seed)
    names = ["version", *questions]
    names += [f"OTHER_{place}" for place in range(max(0, columns - len(names)))]
    path = folder / "WVS_Cross-National_Wave_7_csv_v6_0.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        stream.write(",".join(names) + "\n")
        for first in range(0, people, 4096):
            size = min(4096, people - first)
            drawn = [_drawn(rng, name, size, first, questions, codebook) for name in names]
            stream.writelines(",".join(row) + "\n" for row in zip(*drawn, strict=True))
    return path


def _drawn(
    rng: np.random.Generator, name: str, size: int, first: int, questions: dict[str, Any], codebook: dict[str, Any]
) -> list[str]:
    if name == "D_INTERVIEW":
        return [str(10_000_000 + place) for place in range(first, first + size)]
    if name not in questions:
        return ["6-0-0 (2024-04-30)"] * size if name == "version" else rng.integers(0, 99, size).astype(str).tolist()
    codes = [code for code in codebook.get(name, {}).get("choices", {}) if not code.startswith("-")] or ["30"]
    texts = np.array([*codes, "-1"], dtype=object)
    places = rng.integers(0, len(codes), size)
    places[rng.random(size) < (0 if name == "B_COUNTRY" else 1 / 12)] = len(codes)
    return texts[places].tolist()
