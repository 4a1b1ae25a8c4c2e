"""How much memory and time a large survey file takes: 100,000 made-up respondents, 500 columns, draft and build.

    python studies/survey_scale.py [ENDING ...]    # .sav .zsav .dta .csv .parquet; left out: .sav and .csv

Answers are drawn at random (seed 0) into a temporary folder of up to 1 GB. Each step runs in a process of its own.
Prints its seconds and greatest resident memory as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

PEOPLE, COLUMNS, SEED = 100_000, 500, 0
OPTIONS = {1: "Agree strongly", 2: "Agree", 3: "Neither agree nor disagree", 4: "Disagree", 5: "Disagree strongly",
           -9: "Refused"}  # fmt: skip


def main(endings: list[str]) -> None:
    """Make a file of each kind, draft its questionnaire, build it, and say what that took."""
    results = {}
    for ending in endings:
        with tempfile.TemporaryDirectory() as name:
            file, questionnaire = Path(name) / f"survey{ending}", Path(name) / "questionnaire.yaml"
            make(file)
            results[ending] = {
                "file_mb": round(file.stat().st_size / 1e6),
                "draft": _measured("draft", str(file), "--output", str(questionnaire)),
                "build": _measured("build", "own", "--source", str(file), "--questionnaire", str(questionnaire),
                                   "--output", f"{name}/built"),
            }  # fmt: skip
    print(json.dumps(results, indent=2))


def make(file: Path) -> None:
    """A survey with an id, a weight, a country, sex, age, and items on a scale of five."""
    import pyreadstat

    rng = np.random.default_rng(SEED)
    items = [f"q{number}" for number in range(COLUMNS - 5)]
    codes = rng.choice(np.array(list(OPTIONS), dtype="int8"), (PEOPLE, len(items)))
    table = pd.DataFrame(codes, columns=items)
    labels = {name: f"How far do you agree with statement {name[1:]}?" for name in items}
    who = {"id": np.arange(PEOPLE), "weight": rng.gamma(4, 0.25, PEOPLE).round(4), "sex": rng.integers(1, 3, PEOPLE),
           "age": rng.integers(18, 90, PEOPLE), "country": rng.choice(["NO", "JP", "BR"], PEOPLE)}  # fmt: skip
    table = pd.concat([pd.DataFrame(who), table], axis=1)
    values = dict.fromkeys(items, OPTIONS) | {"sex": {1: "Male", 2: "Female"}}
    if file.suffix in (".sav", ".zsav"):
        pyreadstat.write_sav(table, file, column_labels=labels, variable_value_labels=values, row_compress=True)
    elif file.suffix == ".dta":
        pyreadstat.write_dta(table, file, column_labels=labels, variable_value_labels=values)
    else:
        words = {name: table[name].map(values[name]) for name in values}
        table = table.assign(**words)
        table.to_csv(file, index=False) if file.suffix == ".csv" else table.to_parquet(file)


def _measured(*words: str) -> dict[str, float]:
    start = time.perf_counter()
    command = [sys.executable, "-m", "cuma", "data", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    kib = 1024 if sys.platform != "darwin" else 1
    return {"seconds": round(time.perf_counter() - start, 1), "peak_gib": round(usage.ru_maxrss * kib / 2**30, 2)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("endings", nargs="*", metavar="ENDING", default=[".sav", ".csv"])
    arguments = parser.parse_args()
    main(arguments.endings)
