"""Option distributions from the logits of the answer letters, averaged over the orders of the letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from cuma.answering.letters import SurveyTokens, answer_logits, mean_over_orders, option_shares
from cuma.data.surveys.cells import NO_GROUP
from cuma.data.surveys.survey import NO_ANSWER, WEIGHT, Survey
from cuma.evaluation.answer_log import AnswerLog, distinct
from cuma.metrics.corners import ITEM_SEEN
from cuma.people.profile_table import ProfileTable

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True, eq=False)
class LocalModel:
    """How a model on this machine is asked."""

    model: Any
    """A causal LM, bare or a PeftModel, in eval mode."""
    tokens: SurveyTokens
    table: ProfileTable | None
    """Embeddings for a profile-routed mixture; None for any other model."""
    batch_size: int = 32
    """Prompts at once."""

    def answer(
        self,
        rows: Sequence[dict[str, Any]],
        progress: str | None = None,
        log: AnswerLog | None = None,
        *,
        record: bool = True,
    ) -> tuple[list[np.ndarray], list[pd.DataFrame]]:
        """Probability of each option (not letter, not renormalised) of each row, and the gates of each batch: columns
        row (its place among `rows`), layer, expert, gate.

        The answer does not depend on batch size, padding side or the order of rows beyond rounding (1e-5).

        Args:
            rows: from `survey_cells`; only slices of it are taken.
            progress: label of a progress bar; None: no bar.
            log: what was answered so far; whole batches, so that what is computed anew is as it would have been.
            record: whether a mixture's gates are recorded.
        """
        mixture = record and hasattr(getattr(self.model, "base_model", None), "record_routing")
        predicted: list[np.ndarray] = []
        gates: list[pd.DataFrame] = []
        starts = range(0, len(rows), self.batch_size)
        for start in tqdm(starts, desc=progress, unit="batch", disable=progress is None):
            done = None if log is None else log.get(str(start))
            if done is None:
                done = self._batch(rows[start : start + self.batch_size], mixture)
                if log is not None:
                    log.put(str(start), done)
            predicted += [np.array(options) for options in done["said"]]
            if done["gates"] is not None:
                table = pd.DataFrame(done["gates"])
                gates.append(table.assign(row=start + table.pop("row")))
        return predicted, gates

    def _batch(self, rows: Sequence[dict[str, Any]], record: bool) -> dict[str, Any]:
        batch = self.tokens.batch([self.tokens.prompt(row["prompt"]) for row in rows])
        batch = {name: tensor.to(_device(self.model)) for name, tensor in batch.items()}
        conditioning = {} if self.table is None else {"profile_embeds": self.table([row["profile"] for row in rows])}
        logits, recorded = _forward(self.model, batch, conditioning, record)
        gates = None
        if recorded:
            gates = _mean_gates(recorded, batch["attention_mask"]).to_dict("list")
        predicted = option_shares(logits, [row["order"] for row in rows], self.tokens)
        return {"said": [options.tolist() for options in predicted], "gates": gates}


def predict_cells(
    asking: LocalModel, cells: Dataset, *, every_order: bool = True, progress: str | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What the model says for every group and question.

    Args:
        asking: the model.
        cells: from `survey_cells`.
        every_order: True averages over all orders of the letters; False takes one per cell, turning with the group, so
            that every option stands equally often at every letter over groups (for learning curves).
        progress: label of a progress bar; None: no bar.

    Returns:
        cells: columns group, question_id, probabilities (array over the question's options, sums to 1), option_mass
            (probability of the letters before renormalising).
        routing: columns group, layer, expert, gate (mean over real tokens and prompts); empty unless the model is a
            mixture and every order was asked.
    """
    if not every_order:
        cells = cells.select(_one_order_each(cells))
    rows, places = distinct(cells.to_list(), profiles=asking.table is not None)
    predicted, gates = asking.answer(rows, progress, record=every_order)
    keys = cells.to_pandas()[["group", "question_id"]]
    return merge_orders(keys, [predicted[place] for place in places]), merge_gates(gates, keys["group"], places)


def for_people(cells: pd.DataFrame, survey: Survey, part: str, unsteered: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per person of `part` × question they answered, in the form of predictions.parquet.

    Args:
        cells: from `predict_cells`.
        survey: the benchmark.
        part: "test".
        unsteered: the same for a model that is not told who asks; None: not measured.
    """
    seen = {group.id: group.role == "seen" for group in survey.groups}
    weight = [WEIGHT] if survey.weighted else []
    long = survey.people[survey.people["part"] == part].melt(
        id_vars=["person", "group", *weight],
        value_vars=[question.id for question in survey.questions],
        var_name="question_id",
        value_name="answer",
    )
    long = long[long["answer"] != NO_ANSWER]
    table = long.merge(cells, on=["group", "question_id"], how="inner", validate="many_to_one")
    table["seen"] = table["group"].map(seen)
    items = {question.id: question.role == "seen" for question in survey.questions}
    if not all(items.values()):
        table[ITEM_SEEN] = table["question_id"].map(items)
    table["n"] = table.groupby(["group", "question_id"])["person"].transform("size")
    columns = ["person", "group", "seen", "question_id", "answer", "probabilities", "option_mass", "n", *weight]
    columns += [ITEM_SEEN] if ITEM_SEEN in table else []
    if unsteered is not None:
        table["unsteered"] = table["question_id"].map(unsteered.set_index("question_id")["probabilities"])
        columns.append("unsteered")
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


def merge_orders(keys: pd.DataFrame, predicted: list[np.ndarray]) -> pd.DataFrame:
    """Each cell's distribution, the mean over the orders of the letters; keys: columns group, question_id."""
    frame = keys.assign(predicted=predicted)
    rows = []
    for (group, question), orders in frame.groupby(["group", "question_id"], sort=False)["predicted"]:
        rows.append((group, question, *mean_over_orders(list(orders))))
    return pd.DataFrame(rows, columns=["group", "question_id", "probabilities", "option_mass"])


def _mean_gates(recorded: dict[str, torch.Tensor], mask: torch.Tensor) -> pd.DataFrame:
    tables = []
    for layer, gates in recorded.items():
        weight = mask.unsqueeze(-1).to(gates)
        mean = ((gates * weight).sum(1) / weight.sum(1)).cpu().numpy()
        table = pd.DataFrame(mean).assign(row=range(len(mask)), layer=layer)
        tables.append(table.melt(id_vars=["row", "layer"], var_name="expert", value_name="gate"))
    return pd.concat(tables, ignore_index=True)


def merge_gates(gates: list[pd.DataFrame], groups: Sequence[str], places: Sequence[int]) -> pd.DataFrame:
    """Mean gate of every group, layer and expert. groups, places: of each row, and which of the `distinct` it is."""
    if not gates:
        return pd.DataFrame(columns=["group", "layer", "expert", "gate"])
    told = pd.DataFrame({"group": groups, "row": places})
    rows = told[told["group"] != NO_GROUP].merge(pd.concat(gates, ignore_index=True), on="row")
    merged = rows.groupby(["group", "layer", "expert"], as_index=False, sort=True)
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
