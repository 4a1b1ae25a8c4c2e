"""In which orders shall a model see a scale's options while it learns? Error, time, and what is left of position bias.

    make orders ARGS="--anes data/anes.jsonl"      # ANES 2020; writes docs/results/option-orders.json

CuMA (recipe `questions/cuma`) is trained once with every order, a row of a step being a cell in one of them: `fixed`
(as the questionnaire prints it), `natural` (that and its reverse) and `rotations` (each option under each letter).
Every trained model is then asked each test cell in the scale's own order and in its reverse: the EMD between the two
answers is how much it goes by the place of an option, and 0 in who reads them alone.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anes_thermometers import counted
from ledger import Ledger
from products import with_16_bit_products
from question_table import mean_error, two_way

from cuma.answering.materials import Materials, profile_in_prompt
from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.data.corpus import Shares
from cuma.data.surveys.cells import askable, share_cells
from cuma.evaluation.asking import asking_of, load_model
from cuma.evaluation.curve import curve_point
from cuma.evaluation.predict import merge_orders
from cuma.evaluation.subject import subject_of_run
from cuma.metrics import emd
from cuma.metrics.corners import CORNERS, ITEM_SEEN, corner_of
from cuma.metrics.figures import estimate_text, number
from cuma.recipes.load import load_recipe
from cuma.recipes.schema import Recipe
from cuma.training.train import train_run

ORDERS = ("fixed", "natural", "rotations")
RESULT = Path("docs/results/option-orders.json")


def main() -> None:
    """Train and measure what is not done yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anes", type=counted, required=True, help="counted by studies/anes_thermometers.py")
    parser.add_argument("--orders", choices=ORDERS, nargs="+", default=list(ORDERS))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--output-dir", type=Path, default=Path("runs/option-orders"))
    arguments = parser.parse_args()
    ledger = Ledger(RESULT, "python studies/option_orders.py --anes FILE")
    folder = arguments.output_dir / "anes"
    if not folder.is_dir():
        build("own", arguments.anes, folder, Options(seed=0, holdout_items=0.2, holdout_share=0.15))
    for orders in arguments.orders:
        recipe = order_recipe(orders, folder, arguments.steps)
        home = arguments.output_dir / f"{orders}-{arguments.steps}"
        ledger.once(f"{orders}/{arguments.steps}", recipe.digest, partial(measure, recipe, home))
    print(page(ledger.runs))


def order_recipe(orders: str, folder: Path, steps: int) -> Recipe:
    """One training, which differs from the others in its orders and its length alone."""
    own = (f"data.benchmark={folder}", f"data.option_orders={orders}", f"training.max_steps={steps}")
    points = [steps * part // 20 for part in range(21)]  # the page shows the quarters
    return load_recipe("questions/cuma", (*own, f"training.curve_steps={points}"))


def measure(recipe: Recipe, home: Path) -> dict[str, Any]:
    """Corner → error as it was trained to be asked, and the EMD between a scale's two directions; and the curve."""
    materials = with_16_bit_products(Materials.load(recipe))
    run = train_run(recipe, home, materials, curve_point)
    curve = [row for row in run.stages()[0].read_log() if "curve" in row]
    cells = two_directions(home, materials)
    corners = {
        corner: {name: two_way(rows, name) for name in ("error", "between")} for corner, rows in cells.groupby("corner")
    }
    return {
        "corners": corners,
        "curve": [
            {"step": row["step"], **{name: part["soft_emd"] for name, part in row["curve"]["corners"].items()}}
            for row in curve
        ],
    }


def two_directions(home: Path, materials: Materials) -> pd.DataFrame:
    """item, group, corner, error (of what the run's own orders give) and between (EMD of the two directions' answers)
    of every test cell of a scale."""
    subject = subject_of_run(home)
    shares = materials.corpus.shares() if materials.corpus is not None else None
    assert shares is not None
    scales = [question for question in askable(shares.questions) if question.ordinal]
    table = shares.table[shares.table["question_id"].isin([question.id for question in scales])]
    predicted = {}
    with load_model(subject, materials) as model:
        asking = asking_of(model, subject.recipe, materials, materials.survey)
        for orders in {"natural", subject.recipe.data.option_orders}:
            shown = Shares(tuple(replace(question, option_orders=orders) for question in scales), table)
            rows = share_cells(shown, profile_in_prompt=profile_in_prompt(subject.recipe), counts=False)
            if asking.table is not None:
                asking = replace(asking, table=asking.table.covering(rows["profile"]))
            with materials.kept_trunk(subject.recipe, model):
                answers, _ = asking.answer(rows.to_list(), progress=f"{orders} orders", record=False)
            predicted[orders] = rows.to_pandas()[["group", "question_id"]], answers
    both = predicted["natural"][0].assign(answer=[one / one.sum() for one in predicted["natural"][1]])
    between = both.groupby(["group", "question_id"])["answer"].agg(lambda pair: float(emd(*pair, ordinal=True)))
    own = merge_orders(*predicted[subject.recipe.data.option_orders])
    cells = table.drop(columns="profile").merge(own, on=["group", "question_id"], validate="one_to_one")
    cells = cells.merge(between.rename("between").reset_index(), on=["group", "question_id"], validate="one_to_one")
    pairs = zip(cells["probabilities"], cells["shares"], strict=True)
    return cells.assign(
        item=cells["question_id"],
        error=[float(emd(answer, np.asarray(share, dtype=np.float64), ordinal=True)) for answer, share in pairs],
        corner=[corner_of(*sides) for sides in zip(cells[ITEM_SEEN], cells["seen"], strict=True)],
    )


def page(runs: dict[str, Any]) -> str:
    """The tables of docs/studies.md."""
    head = f"| {' | '.join(CORNERS)} |"
    rule = "| --- |" + " ---: |" * len(CORNERS)
    lines = []
    for name, what in (("error", "soft EMD ↓ as trained"), ("between", "EMD between a scale's two directions ↓")):
        lines += [f"| {what} {head}", rule]
        for run, found in runs.items():
            orders, steps = run.split("/")
            cells = [estimate_text(found["corners"][corner][name]) for corner in CORNERS]
            lines.append(f"| {orders}, {int(steps):,} steps | {' | '.join(cells)} |")
        lines.append("")
    lines += ["| validation error (mean of corners) ↓ after | a quarter | half | three quarters | all of the steps |"]
    lines += ["| --- |" + " ---: |" * 4]
    for run, found in runs.items():
        orders, steps = run.split("/")
        error = {row["step"]: mean_error(row) for row in found["curve"]}
        quarters = [number(error[int(steps) * part // 4]) for part in (1, 2, 3, 4)]
        lines.append(f"| {orders}, {int(steps):,} steps | {' | '.join(quarters)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
