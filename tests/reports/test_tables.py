"""The table says what the predictions say, and says the same everywhere."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from cuma.errors import CumaError
from cuma.metrics import compare, score
from cuma.metrics.measure import METRICS
from cuma.reports import comparison_table, markdown_table, rich_table
from cuma.reports.tables import cell_text, shown_columns, trained_here
from cuma.runs.evidence import read_evidence
from helpers.synthetic import METHODS, QUESTIONS


def predictions(run: Path) -> pd.DataFrame:
    return pd.read_parquet(next(run.glob("evaluations/*/predictions.parquet")))


def by_hand(rows: pd.DataFrame) -> dict[str, float]:
    """Yes/no metrics from first principles: mean over a group's questions, then over groups."""
    rows = rows.assign(
        yes=rows["probabilities"].map(lambda shares: shares[0]),
        said_yes=1.0 - rows["answer"],
        hit=rows["probabilities"].map(np.argmax) == rows["answer"],
    )
    cells = rows.groupby(["group", "question_id"])[["yes", "said_yes", "hit", "option_mass"]].mean()
    p = cells["yes"]
    cells["soft_emd"] = (p - cells["said_yes"]).abs()
    cells["argmax_emd"] = ((p >= 0.5) - cells["said_yes"]).abs()
    cells["entropy"] = -(p * np.log(p) + (1 - p) * np.log(1 - p))
    means = cells.groupby("group").mean().mean()
    return {
        "soft_emd": means["soft_emd"],
        "argmax_emd": means["argmax_emd"],
        "accuracy": means["hit"],
        "entropy": means["entropy"],
        "option_mass": means["option_mass"],
    }


def test_figures_follow_from_the_predictions_by_hand(table: pd.DataFrame, runs: Sequence[Path]) -> None:
    for run in runs:
        rows = predictions(run)
        for side, seen in (("seen", True), ("unseen", False)):
            shown = table[(table["name"] == run.name) & (table["side"] == side)]
            assert len(shown) == int((rows["seen"] == seen).any())
            for _, row in shown.iterrows():
                for metric, value in by_hand(rows[rows["seen"] == seen]).items():
                    assert row[metric] == pytest.approx(value, abs=1e-9), (run.name, side, metric)
                assert row["groups"] == rows.loc[rows["seen"] == seen, "group"].nunique()
                assert row["people"] == rows.loc[rows["seen"] == seen, "person"].nunique()


def test_figures_and_intervals_are_those_of_the_metrics(table: pd.DataFrame, runs: Sequence[Path]) -> None:
    lora, cuma = (predictions(next(run for run in runs if run.name == name)) for name in ("lora", "cuma"))
    alone, paired = score(lora, QUESTIONS, draws=60), compare(lora, cuma, QUESTIONS, draws=60)
    for side in ("seen", "unseen"):
        row = table[(table["name"] == "lora") & (table["side"] == side)].iloc[0]
        for metric in METRICS:
            found = [row[metric], row[f"{metric}_low"], row[f"{metric}_high"]]
            numbers = [alone[side][metric][key] for key in ("value", "low", "high")]
            assert found == pytest.approx([np.nan if number is None else number for number in numbers], nan_ok=True)
        expected = [paired[side]["soft_emd"][key] for key in ("value", "low", "high")]
        assert [row["difference"], row["difference_low"], row["difference_high"]] == pytest.approx(expected)


def test_the_reference_comes_first_and_anchors_last(table: pd.DataFrame) -> None:
    seen = table[table["side"] == "seen"]
    assert seen["name"].iloc[0] == "cuma"
    order = [["reference", "rival", "control", "anchor"].index(role) for role in seen["role"]]
    assert order == sorted(order)
    assert seen.set_index("name").loc["shuffled", "role"] == "control"
    assert len(seen) == len(METHODS)


def test_terminal_and_markdown_show_every_figure(table: pd.DataFrame) -> None:
    for side in ("seen", "unseen"):
        console = Console(width=400, record=True, file=io.StringIO())
        console.print(rich_table(table, side))
        terminal, markdown = console.export_text(), markdown_table(table, side)
        for _, row in table[table["side"] == side].iterrows():
            for column in shown_columns(table):
                assert cell_text(row, column.key) in terminal
                assert cell_text(row, column.key) in markdown
        assert "groups" in markdown
        assert "0.41 ⚠" in markdown


def test_without_a_reference_there_is_no_difference(runs: Sequence[Path]) -> None:
    table = comparison_table([run for run in runs if run.name.startswith("anchor")], draws=0)
    assert set(table["role"]) == {"anchor"}
    assert table["difference"].isna().all()
    assert "Against" not in markdown_table(table, "seen")


def test_two_runs_of_one_label_are_told_apart_by_their_names(
    runs: Sequence[Path], copy_of: Callable[[Path], Path]
) -> None:
    other = copy_of(runs[0])
    info = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps(info | {"name": "again"}))
    labels = set(comparison_table([runs[0], other], draws=0)["label"])
    assert labels == {f"{info['label']} ({info['name']})", f"{info['label']} (again)"}


def test_different_people_cannot_be_compared(runs: Sequence[Path], copy_of: Callable[[Path], Path]) -> None:
    other = copy_of(next(run for run in runs if run.name == "lora"))
    file = next(other.glob("evaluations/*/predictions.parquet"))
    pd.read_parquet(file).iloc[:-1].to_parquet(file)
    with pytest.raises(CumaError, match="people"):
        comparison_table([runs[3], other], draws=0)


def test_a_run_twice_other_questions_and_no_evaluation_are_refused(
    runs: Sequence[Path], copy_of: Callable[[Path], Path]
) -> None:
    with pytest.raises(CumaError, match="same name"):
        comparison_table([runs[0], runs[0]])
    other = copy_of(runs[0])
    scores = next(other.glob("evaluations/*/scores.json"))
    scores.write_text(json.dumps({"benchmark": "gss", "questions": QUESTIONS[:3]}))
    with pytest.raises(CumaError, match="different questions"):
        comparison_table([runs[1], other])
    next(other.glob("evaluations/*/predictions.parquet")).unlink()
    with pytest.raises(CumaError, match="not been evaluated"):
        comparison_table([other])
    with pytest.raises(CumaError, match="at least one"):
        comparison_table([])


def test_the_reference_is_chosen_or_named(runs: Sequence[Path]) -> None:
    named = {run.name: run for run in runs}
    assert comparison_table([named["lora"], named["cuma"]], draws=0)["name"].iloc[0] == "cuma"
    pair = [named["semantic"], named["lora"]]
    assert comparison_table(pair, draws=0).set_index("name").loc["semantic", "role"].iloc[0] == "reference"
    chosen = comparison_table(pair, reference="lora", draws=0)
    assert chosen.set_index("name").loc["lora", "role"].iloc[0] == "reference"
    with pytest.raises(CumaError, match="Did you mean 'lora'"):
        comparison_table(pair, reference="lor", draws=0)


def test_runs_of_one_name_are_told_apart_by_their_folders(
    runs: Sequence[Path], copy_of: Callable[[Path], Path]
) -> None:
    run = next(run for run in runs if run.name == "cuma")
    table = comparison_table([run, copy_of(run)], draws=0)
    assert table["name"].nunique() == 2
    assert all(name.startswith("cuma@") for name in table["name"])


def test_p_follows_the_paired_interval_and_holm_only_raises_it(table: pd.DataFrame) -> None:
    others = table[table["role"] != "reference"]
    assert table.loc[table["role"] == "reference", "p"].isna().all()
    assert (others["p_holm"] >= others["p"]).all()
    sure = others[(others["difference_low"] > 0) | (others["difference_high"] < 0)]
    assert (sure["p"] < 0.1).all()


def test_of_several_benchmarks_one_is_chosen(runs: Sequence[Path], copy_of: Callable[[Path], Path]) -> None:
    run = copy_of(runs[0])
    here = next((run / "evaluations").iterdir())
    other = Path(shutil.copytree(here, here.with_name("other-feedbeef")))
    scores = json.loads((other / "scores.json").read_text())
    (other / "scores.json").write_text(json.dumps(scores | {"benchmark": "other"}))
    with pytest.raises(CumaError, match="Choose one with --benchmark"):
        read_evidence([run])
    assert read_evidence([run], benchmark="other").benchmark == "other"
    assert read_evidence([run, runs[1]]).benchmark == "gss"  # the only one that both have
    with pytest.raises(CumaError, match="Did you mean 'other'"):
        read_evidence([run], benchmark="othr")


def test_a_model_is_trained_here_only_if_it_was_trained_on_these_data(runs: list[Path]) -> None:
    evidence = read_evidence(runs)
    kinds = {method.name: trained_here(evidence, method) for method in evidence.methods}
    assert kinds["cuma"]
    assert kinds["lora"]
    assert not kinds["persona"]
    assert not kinds["anchor-average"]
    cuma = evidence.methods[0]
    group = evidence.people.loc[evidence.people["seen"], "group"].iloc[0]
    elsewhere = {"licences": {"wvs": "free"}}, {"population": {"groups": {"Peru": 40}}}, {"kind": "measured"}
    for info in ({"population": {"groups": {group: 40}}}, {"licences": {}}):
        assert trained_here(evidence, replace(cuma, info=cuma.info | info))
    for info in elsewhere:
        assert not trained_here(evidence, replace(cuma, info=cuma.info | info))
