"""Synthetic files in exactly the forms of OpinionQA and SubPOP, pitfalls included."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

LIKELY = ["Very likely", "Somewhat likely", "Not too likely", "Not at all likely", "I am already doing this"]
SCALE = ["Very worried", "Somewhat worried", "Not too worried", "Not at all worried"]
QUESTIONS: dict[str, tuple[str, list[str], list[float]]] = {
    "CAREREL": (
        "How likely is it that you will be responsible for an aging parent?",
        LIKELY,
        [1.0, 2.0, 3.0, 4.0, 2.5],
    ),
    "INDUSTRY": ("What industry or field do you currently work in?", ["Retail", "Education", "Other"], [1, 1, 1]),
    "CARS5": ("Would you want to ride in a driverless vehicle?", ["Yes", "No"], [1.0, 2.0]),
    "WORRY": ("How worried are you about the development of robots?", SCALE, [1.0, 2.0, 3.0, 4.0]),
}
"""Key → wording, options without the refused one, and where each stands, as in the repository's info.csv."""
ATTRIBUTES = {
    "CREGION": ["Northeast", "Midwest", "South", "West"],
    "SEX": ["Male", "Female"],
    "EDUCATION": ["Less than high school", "College graduate/some postgrad"],
    "POLPARTY": ["Republican", "Democrat", "Independent", "Other"],
    "INCOME": ["Less than $30,000", "$100,000 or more"],
}


def write_opinionqa(folder: Path, people: int = 400, waves: tuple[int, ...] = (27, 29), seed: int = 0) -> Path:
    """The folder human_resp. Some refuse, some were not asked, some do not say their party."""
    rng = np.random.default_rng(seed)
    for wave in waves:
        home = folder / "human_resp" / f"American_Trends_Panel_W{wave}"
        home.mkdir(parents=True)
        write_info(home, wave)
        keys = [f"{key}_W{wave}" for key in QUESTIONS]
        rows = []
        for person in range(people):
            row: dict[str, Any] = {"": person, "QKEY": 100000.0 + person}
            row |= {name: str(rng.choice(values)) for name, values in ATTRIBUTES.items()}
            if rng.random() < 0.05:
                row["POLPARTY"] = "Refused"
            lean = 0.8 if row["POLPARTY"] == "Democrat" else 0.3
            for key, (_, options, _) in zip(keys, QUESTIONS.values(), strict=True):
                shares = np.array([lean, *[(1 - lean) / (len(options) - 1)] * (len(options) - 1)])
                row[key] = str(rng.choice(options, p=shares))
                chance = rng.random()
                row[key] = "" if chance < 0.1 else "Refused" if chance < 0.14 else row[key]
            row[f"WEIGHT_W{wave}"] = round(float(rng.uniform(0.3, 3)), 6)
            rows.append(row)
        write_csv(home / "responses.csv", rows)
    return folder / "human_resp"


def write_info(home: Path, wave: int) -> None:
    """info.csv and metadata.csv of a wave, with the index columns that pandas left in them."""
    info = []
    for place, (key, (text, options, places)) in enumerate(QUESTIONS.items()):
        mapping = {float(code): option for code, option in enumerate(options, 1)} | {99.0: "Refused"}
        row = {"": place, "Unnamed: 0.1": place, "Unnamed: 0": place, "key": f"{key}_W{wave}"}
        row |= {"option_mapping": repr(mapping), "question": text, "references": repr([*options, "Refused"])}
        info.append({**row, "option_ordinal": repr(places)})
    write_csv(home / "info.csv", info)
    listed = enumerate(ATTRIBUTES.items())
    write_csv(home / "metadata.csv", [{"": at, "key": name, "options": repr(values)} for at, (name, values) in listed])


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


SUBPOP_GROUPS = [("SEX", "Male"), ("SEX", "Female"), ("POLPARTY", "Democrat"), ("POLPARTY", "Republican"),
                 ("CREGION", "South"), ("INCOME", "Less than $30,000")]  # fmt: skip


def subpop_rows(questions: int = 12, seed: int = 0) -> list[dict[str, Any]]:
    """Rows as SubPOP's .jsonl has them: the refused option is named, and its share left out."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(questions):
        options = [*SCALE, "Refused"] if number % 2 else ["A good thing", "A bad thing", "Refused"]
        for attribute, group in SUBPOP_GROUPS:
            shares = rng.dirichlet(np.ones(len(options) - 1))
            rows.append(
                {
                    "qkey": f"TOPIC{number}_W{80 + number}", "attribute": attribute, "group": group,
                    "responses": shares.tolist(), "refusal_rate": 0.02, "ordinal": [1.0] * (len(options) - 1),
                    "question": f"{'What of' if number % 3 else 'Do you mind'} {WORDS[number % len(WORDS)]} {number}?",
                    "options": options,
                }
            )  # fmt: skip
    return rows


WORDS = ("the economy", "schools nearby", "a rainy day", "foreign trade deals", "police officers", "old railways",
         "clean water", "your neighbours", "young doctors", "loud music", "long holidays", "public parks")  # fmt: skip


def write_subpop(path: Path, rows: list[dict[str, Any]]) -> Path:
    """As .jsonl, or as .csv with lists in Python's print, as the authors' scripts write it."""
    if path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    else:
        write_csv(path, [{name: str(value) for name, value in row.items()} for row in rows])
    return path
