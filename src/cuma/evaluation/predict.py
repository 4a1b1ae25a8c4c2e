"""Option distributions from the logits of the answer letters, averaged over the orders of the letters."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from cuma.benchmarks.base import NO_ANSWER, Survey
from cuma.benchmarks.cells import survey_cells
from cuma.benchmarks.exemplars import Exemplars
from cuma.benchmarks.tensors import SurveyTokens, answer_logits, mean_over_orders, option_shares
from cuma.profile_table import ProfileTable


def predict_cells(
    model: Any,
    tokens: SurveyTokens,
    survey: Survey,
    part: str,
    roles: Collection[str],
    *,
    table: ProfileTable | None,
    profile_in_prompt: bool,
    exemplars: Exemplars | None = None,
    batch_size: int = 32,
    every_order: bool = True,
    progress: str | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What the model says for every group and question.

    The answer does not depend on batch size, padding side or the order of rows beyond rounding (1e-5).

    Args:
        model: a causal LM, bare or a PeftModel, in eval mode.
        tokens: tokenises and pads.
        survey: the benchmark.
        part: whose cells ("test": those in which a test person answered).
        roles: of the groups.
        table: embeddings for a profile-routed mixture; None for any other model.
        profile_in_prompt: whether the prompt says who asks.
        exemplars: few-shot turns before each question; None: no such turns.
        batch_size: prompts at once.
        every_order: True averages over all orders of the letters; False takes one per cell, turning with the group, so
            that every option stands equally often at every letter over groups (for learning curves).
        progress: label of a progress bar; None: no bar.

    Returns:
        cells: columns group, question_id, probabilities (array over the question's options, sums to 1), option_mass
            (probability of the letters before renormalising).
        routing: columns group, layer, expert, gate (mean over real tokens and prompts); empty unless the model is a
            mixture.
    """
    cells = survey_cells(survey, part, roles, profile_in_prompt=profile_in_prompt, exemplars=exemplars)
    if not every_order:
        cells = cells.select(_one_order_each(cells))
    mixture = hasattr(getattr(model, "base_model", None), "record_routing")
    said: list[np.ndarray] = []
    gates: list[pd.DataFrame] = []
    starts = range(0, len(cells), batch_size)
    for start in tqdm(starts, desc=progress, unit="batch", disable=progress is None):
        rows = cells.select(range(start, min(start + batch_size, len(cells)))).to_list()
        batch = tokens.batch([tokens.prompt(row["prompt"]) for row in rows])
        batch = {name: tensor.to(_device(model)) for name, tensor in batch.items()}
        conditioning = {} if table is None else {"profile_embeds": table([row["profile"] for row in rows])}
        logits, recorded = _forward(model, batch, conditioning, mixture and every_order)
        said.extend(option_shares(logits, [row["order"] for row in rows], tokens))
        if recorded:
            gates.append(_mean_gates(recorded, batch["attention_mask"], [row["group"] for row in rows]))
    return _merge_orders(cells.to_pandas()[["group", "question_id"]], said), _merge_gates(gates)


def for_people(cells: pd.DataFrame, survey: Survey, part: str) -> pd.DataFrame:
    """One row per person of `part` × question they answered, in the form of predictions.parquet.

    Args:
        cells: from `predict_cells`.
        survey: the benchmark.
        part: "test".
    """
    seen = {group.id: group.role == "seen" for group in survey.groups}
    long = survey.people[survey.people["part"] == part].melt(
        id_vars=["person", "group"],
        value_vars=[question.id for question in survey.questions],
        var_name="question_id",
        value_name="answer",
    )
    long = long[long["answer"] != NO_ANSWER]
    table = long.merge(cells, on=["group", "question_id"], how="inner", validate="many_to_one")
    table["seen"] = table["group"].map(seen)
    columns = ["person", "group", "seen", "question_id", "answer", "probabilities", "option_mass"]
    return table[columns].sort_values(["person", "question_id"], ignore_index=True)


@torch.no_grad()
def _forward(
    model: Any, batch: dict[str, torch.Tensor], conditioning: dict[str, Any], record: bool
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    if not record:
        return answer_logits(model, batch, **conditioning)[0], {}
    with model.record_routing():
        logits = answer_logits(model, batch, **conditioning)[0]
    return logits, model.routing()


def _merge_orders(keys: pd.DataFrame, said: list[np.ndarray]) -> pd.DataFrame:
    frame = keys.assign(said=said)
    rows = []
    for (group, question), orders in frame.groupby(["group", "question_id"], sort=False)["said"]:
        rows.append((group, question, *mean_over_orders(list(orders))))
    return pd.DataFrame(rows, columns=["group", "question_id", "probabilities", "option_mass"])


def _mean_gates(recorded: dict[str, torch.Tensor], mask: torch.Tensor, groups: list[str]) -> pd.DataFrame:
    tables = []
    for layer, gates in recorded.items():
        weight = mask.unsqueeze(-1).to(gates)
        mean = ((gates * weight).sum(1) / weight.sum(1)).cpu().numpy()
        table = pd.DataFrame(mean).assign(group=groups, layer=layer)
        tables.append(table.melt(id_vars=["group", "layer"], var_name="expert", value_name="gate"))
    return pd.concat(tables, ignore_index=True)


def _merge_gates(gates: list[pd.DataFrame]) -> pd.DataFrame:
    if not gates:
        return pd.DataFrame(columns=["group", "layer", "expert", "gate"])
    merged = pd.concat(gates, ignore_index=True).groupby(["group", "layer", "expert"], as_index=False, sort=True)
    return merged["gate"].mean().astype({"expert": "int64", "gate": "float64"})


def _one_order_each(cells: Any) -> list[int]:
    """Row numbers: the first order for the first group, the second for the second, …, for each question."""
    keys = cells.to_pandas()[["group", "question_id"]]
    turn = keys["group"].map({group: number for number, group in enumerate(keys["group"].unique())})
    within = keys.groupby(["group", "question_id"]).cumcount()
    count = keys.groupby(["group", "question_id"])["group"].transform("size")
    return [int(row) for row in np.flatnonzero(within.to_numpy() == (turn % count).to_numpy())]


def _device(model: Any) -> torch.device:
    return next(model.parameters()).device
