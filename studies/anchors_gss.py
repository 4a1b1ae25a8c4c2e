"""Multilevel regression against the other statistics, on groups of gss that nobody was trained on.

    python studies/anchors_gss.py    # about a minute; writes docs/results/anchors-gss.json

Splits 0 to 4 of `gss` (four items), as in `make study`. Each anchor is fitted to the training people of seen groups;
the two regressions' penalties are chosen on the validation groups. Intervals are Student's over the splits; differences
are paired by group, p-values are Holm's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tables import interval, measured, paired_by_group

from cuma.data.surveys.gss import load_gss
from cuma.evaluation.anchors import anchor_predictions
from cuma.metrics.figures import estimate_text, p_text
from cuma.runs.folder import write_json
from cuma.runs.machine import versions

FILE = Path("docs/results/anchors-gss.json")
LABELS = {
    "mrp": "**multilevel regression (MRP)**",
    "logistic": "logistic regression on the fields",
    "pairs": "logistic regression on pairs of fields",
    "process": "Gaussian process on the fields",
    "average": "the population's average",
}


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    splits = parser.parse_args().splits
    rows = {split: split_row(split) for split in splits}
    emd = {name: [row[name]["unseen"]["soft_emd"] for row in rows.values()] for name in LABELS}
    table = {
        "command": "python studies/anchors_gss.py",
        "splits": splits,
        "soft_emd": {name: {"by_split": values, **interval(values)} for name, values in emd.items()},
        "mrp_minus": paired_by_group(rows, "mrp", [name for name in LABELS if name != "mrp"]),
        "versions": versions(),
    }
    write_json(FILE, table)
    print(page(json.loads(FILE.read_text())))


def split_row(split: int) -> dict[str, Any]:
    """Anchor → as `measured`, of one split."""
    survey = load_gss(split)
    return {name: measured(anchor_predictions(name, survey), survey) for name in LABELS}


def page(table: dict[str, Any]) -> str:
    """The table of docs/studies.md."""
    splits = " | ".join(f"split {split}" for split in table["splits"])
    lines = [
        f"| unseen groups | {splits} | mean ↓ | MRP minus it | p (Holm) |",
        f"| --- |{' ---: |' * (len(table['splits']) + 3)}",
    ]
    for name, label in LABELS.items():
        found, test = table["soft_emd"][name], table["mrp_minus"].get(name)
        cells = [f"{value:.3f}" for value in found["by_split"]] + [_with_ends(found)]
        cells += ["", ""] if test is None else [_with_ends(test, sign=True), p_text(test["p_holm"])]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _with_ends(found: dict[str, float], sign: bool = False) -> str:
    return estimate_text({**found, "value": found["mean"]}, sign=sign)


if __name__ == "__main__":
    main()
