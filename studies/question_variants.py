"""What helps on items that nobody was trained on? CuMA with one thing changed, chosen on validation items.

    make variants ARGS="--anes data/anes.jsonl"                   # a night; docs/results/question-variants.json
    make variants ARGS="--anes data/anes.jsonl --final NAME"      # that variant on splits 60 to 64

Every variant is trained as CuMA is in `make questions`: at CuMA's learning rate, with as many trained parameters, on
the same thermometers. The error that chooses is that on validation items, which are in no training and in no test.
`--final` measures one variant and CuMA once on the test cells of splits that nothing was chosen on.

The study goes on where it was stopped; several processes may share it.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from anes_thermometers import counted
from question_table import OURS, differences, on_shared_splits, pooled, two_way
from questions import SPLITS, Study, Trial, validation_curve
from tables import interval

from cuma.metrics.corners import CORNERS, corner_of
from cuma.metrics.figures import MISSING, estimate_text, number, p_text
from cuma.metrics.inference import holm
from cuma.recipes.schema import Recipe

BENCHMARK = "anes"
NEW_SPLITS = (60, 61, 62, 63, 64)
SEEN_ITEMS, UNSEEN_ITEMS = (corner_of(seen, True) for seen in (True, False))
"""The corners that validation has; the second one chooses."""
RESULT = Path("docs/results/question-variants.json")


@dataclass(frozen=True)
class Variant:
    """One thing that is changed in CuMA, at the same size."""

    label: str
    changes: tuple[str, ...] = ()
    method: str = OURS
    """Of `questions.METHODS`, that is changed."""


VARIANTS = {
    OURS: Variant("CuMA"),
    "experts": Variant("experts read the profile too", method="cuma-experts"),
    "fields": Variant("the router reads the profile's fields too", method="fields"),
    "small-router": Variant(
        "router of width 64, experts of rank 20",
        ("adapter.router_hidden_dim=64", "adapter.r=20", "adapter.lora_alpha=40"),
    ),
    "linear-router": Variant(
        "linear router, experts of rank 23",
        ("adapter.router_hidden_dim=null", "adapter.r=23", "adapter.lora_alpha=46"),
    ),
    "one-expert": Variant("one expert a token", ("adapter.top_k=1",)),
    "four-experts": Variant("four experts a token", ("adapter.top_k=4",)),
    "half-profile": Variant("the profile counts half (`profile_scale` 3)", ("adapter.profile_scale=3",)),
    "double-profile": Variant("the profile counts double (`profile_scale` 12)", ("adapter.profile_scale=12",)),
    "average": Variant("average of weights (`ema_decay` 0.99)", ("training.ema_decay=0.99",)),
    "item-dropout": Variant("a fifth of the items left out (`item_dropout` 0.2)", ("training.item_dropout=0.2",)),
    "weight-decay": Variant("ten times the weight decay (0.1)", ("training.weight_decay=0.1",)),
}


def main() -> None:
    """Do what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anes", type=counted, help="counted by studies/anes_thermometers.py")
    parser.add_argument("--variants", choices=VARIANTS, nargs="+", default=list(VARIANTS))
    parser.add_argument("--splits", type=int, nargs="+", default=list(SPLITS[BENCHMARK]))
    parser.add_argument("--final", choices=[name for name in VARIANTS if name != OURS], help="measure it on new splits")
    parser.add_argument("--table", action="store_true", help="train nothing: print what is known")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/question-variants"))
    arguments = parser.parse_args()
    logging.getLogger("cuma").setLevel(logging.ERROR)
    if not (arguments.anes or arguments.table):
        parser.error("--anes FILE is missing: counted by studies/anes_thermometers.py from the public file")
    study = Variants(arguments.output_dir, arguments.anes)
    if not arguments.table:
        study.train(arguments.variants, arguments.splits, arguments.final)
    print(study.page())


class Variants:
    """CuMA, changed in one thing at a time."""

    def __init__(self, home: Path, anes: Path | None) -> None:
        """Their rate, and what is known of CuMA as it is, come from the result of `make questions`."""
        self.questions = Study(home, None, anes)
        self.own = Study(home, None, anes, RESULT, "question_variants")
        rate = self.questions.rate(BENCHMARK, OURS)
        if rate is None:
            raise SystemExit('CuMA\'s learning rate is not known yet. First: make questions ARGS="--anes FILE"')
        self.rate = rate

    def train(self, names: list[str], splits: list[int], final: str | None) -> None:
        """Make the runs that are missing: those that choose, or, of `final`, those on new splits."""
        if final is not None:
            for split in NEW_SPLITS:
                for name in (OURS, final):
                    self.own.once(self.trial(name, split), self.recipe(name, split), self.own.measure)
            return
        for split in splits:
            for name in names:
                if self.validation(name, split) is None:
                    self.own.once(self.trial(name, split), self.recipe(name, split), self.validated)

    def trial(self, name: str, split: int) -> Trial:
        """The training of one variant on one split."""
        return Trial(BENCHMARK, split, name, self.rate)

    def recipe(self, name: str, split: int) -> Recipe:
        """What it does."""
        variant = VARIANTS[name]
        return self.own.recipe(Trial(BENCHMARK, split, variant.method, self.rate), variant.changes)

    def validated(self, trial: Trial, recipe: Recipe, folder: Path) -> dict[str, Any]:
        """Train, and keep what validation says. Test answers are not looked at."""
        run, _ = self.own.trained(trial, recipe, folder)
        return {"parameters": run.info["trainable_parameters"], "curve": validation_curve(run)}

    def validation(self, name: str, split: int) -> dict[str, Any] | None:
        """Parameters and validation curve of a run that is done, here or in `make questions`; None: it is not."""
        digest = self.recipe(name, split).digest
        places = (
            (self.questions, Trial(BENCHMARK, split, VARIANTS[name].method, self.rate)),
            (self.own, self.trial(name, split)),
        )
        runs = (study.ledger.runs.get(trial.name, {}) for study, trial in places)
        return next((run for run in runs if run.get("recipe") == digest), None)

    def page(self) -> str:
        """The tables of docs/studies.md, of all that is known."""
        runs: dict[str, dict[int, Any]] = {}
        for name in VARIANTS:
            found = {split: self.validation(name, split) for split in SPLITS[BENCHMARK]}
            runs[name] = {split: run for split, run in found.items() if run is not None}
        lines = choice_table(runs)
        for name in VARIANTS:
            measured = {
                arm: {split: run for split in NEW_SPLITS if (run := self.measured(arm, split)) is not None}
                for arm in (OURS, name)
            }
            if name != OURS and measured[name]:
                keys = {split: self.own.ledger.runs[f"{BENCHMARK}/split-{split}/cells"] for split in measured[name]}
                lines += ["", *final_table(name, measured, keys)]
        return "\n".join(lines)

    def measured(self, name: str, split: int) -> dict[str, Any] | None:
        """The scores of a run on new splits; None: it is not done."""
        found = self.own.ledger.runs.get(self.trial(name, split).name)
        return found if found is not None and found["recipe"] == self.recipe(name, split).digest else None


def choice_table(runs: Mapping[str, Mapping[int, Any]]) -> list[str]:
    """Rows: variants; validation errors, means over the splits that all have, at the end, and on unseen items at each
    run's best step; and the variant minus CuMA on unseen items at the end."""
    lines = [
        "| validation error ↓ | parameters | seen items | unseen items | at its best step | minus CuMA | splits |",
        "| --- |" + " ---: |" * 6,
    ]
    shown = on_shared_splits(runs, [name for name, of in runs.items() if of])
    for name, of in shown.items():
        curves = {split: run["curve"] for split, run in of.items()}
        ends = [np.mean([curve[-1][corner] for curve in curves.values()]) for corner in (SEEN_ITEMS, UNSEEN_ITEMS)]
        best = np.mean([min(row[UNSEEN_ITEMS] for row in curve) for curve in curves.values()])
        ours = {split: shown[OURS][split]["curve"][-1][UNSEEN_ITEMS] for split in of}
        apart = [curves[split][-1][UNSEEN_ITEMS] - ours[split] for split in of]
        minus = MISSING if name == OURS else estimate_text(_estimate(apart), sign=True)
        size = next(iter(of.values()))["parameters"]
        lines.append(
            f"| {VARIANTS[name].label} | {size:,} | {number(ends[0])} | {number(ends[1])} | {number(best)} | {minus} | "
            f"{len(of)} |"
        )
    return lines


def _estimate(values: list[float]) -> dict[str, Any]:
    found = interval(values)
    return {"value": found["mean"], "low": found["low"], "high": found["high"]}


def final_table(name: str, runs: Mapping[str, Mapping[int, Any]], keys: Mapping[int, Any]) -> list[str]:
    """Test errors on new splits, of CuMA and of one variant, and the variant minus CuMA."""
    lines = [f"| soft EMD ↓, new splits | {' | '.join(CORNERS)} | splits |", "| --- |" + " ---: |" * (len(CORNERS) + 1)]
    for arm, of in runs.items():
        cells = [estimate_text(two_way(pooled(of, keys, corner), "error")) for corner in CORNERS]
        lines.append(f"| {VARIANTS[arm].label} | {' | '.join(cells)} | {len(of)} |")
    tests = [differences(runs, keys, corner, left=name)[OURS] for corner in CORNERS]
    adjusted = holm([test["p"] for test in tests])
    cells = [f"{estimate_text(test, sign=True)} p {p_text(p)}" for test, p in zip(tests, adjusted, strict=True)]
    lines.append(f"| the second minus the first | {' | '.join(cells)} | {len(runs[name])} |")
    return lines


if __name__ == "__main__":
    main()
