"""Anchors: predictors in closed form, that know what training knows and no language model.

They give the same table of predictions as a model, and say how good a number is: what pure mean collapse scores, what
a group's own training answers score, and how far statistics go, without any text being read and with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from cuma.data.surveys.survey import NO_ANSWER, Survey
from cuma.errors import BenchmarkError, suggestion
from cuma.evaluation import question_anchors
from cuma.evaluation.anchor_data import ASKED_ROLES, AnchorShares, Encoder, Floats, Known, known_of_survey
from cuma.evaluation.completion import low_rank
from cuma.evaluation.item_ridge import ridge_on_items
from cuma.evaluation.option_scales import NONE, average, position, same_for_all
from cuma.evaluation.text_process import process_on_fields, process_on_texts
from cuma.metrics import score_many
from cuma.metrics.corners import ITEM_SEEN
from cuma.metrics.design import Design
from cuma.runs.anchor_file import predictions_of

SHOWN = "soft_emd"
"""The metric that scores.json keeps of an anchor."""


@dataclass(frozen=True)
class Anchor:
    """A named predictor."""

    label: str
    """As in the report's table."""
    description: str
    """One plain sentence."""
    predict: Callable[[Known], AnchorShares]
    needs: str = ""
    """"encoder", "people" (the number behind each share), "own cells" (asked cells that were trained on, with other
    people), "held-out items", or nothing."""
    most: int = 1_000_000
    """Trained questions up to which it stands beside an evaluation: a regression for each question takes its time."""
    of_many_items: bool = False
    """Whether it says more than the others only where there are many items, or held-out ones."""


def _uniform(known: Known) -> AnchorShares:
    """Every option is equally likely."""
    sizes = [len(question.options) for question in known.questions]
    return same_for_all(known, lambda _, question: (np.full(sizes[question], 1 / sizes[question]), NONE))


def anchor_predictions(
    name: str, survey: Survey, embeddings: Floats | None = None, encode: Encoder | None = None
) -> pd.DataFrame:
    """What the anchor says of every test person, in the form of predictions.parquet.

    A question that a person did not answer, or of which the anchor says nothing, has no row. Fitted on the training
    people of seen groups and trained items; what has to be chosen is chosen by soft EMD on validation people.

    embeddings: [groups, D] of profiles in the order of `survey.groups`; "ridge" needs them. encode: texts → [B, D]; the
    anchors that read need it. Raises BenchmarkError for an unknown name or a survey without training answers,
    ProfileError for embeddings that are missing or do not fit.
    """
    if name not in ANCHORS:
        raise BenchmarkError(f"Unknown anchor {name!r}. {suggestion(name, ANCHORS)}")
    known = known_of_survey(survey)
    for place, question in enumerate(survey.questions):
        if question.role == "seen" and place not in known.trained:
            raise BenchmarkError(
                f"{survey.name}: no training person answered {question.id}, so no anchor can be fitted."
            )
    if encode is not None:
        known = known.read(encode, embeddings)
    elif embeddings is not None:
        known = replace(known, profile_embeds=np.asarray(embeddings, dtype=np.float64))
    return _for_people(_rows(known, name, _fitted(name, known)), survey)


def _fitted(name: str, known: Known) -> AnchorShares:
    """What an anchor says. Its matrices are small: on a busy machine the threads of a product would wait for each other
    a hundred times longer than they work."""
    with threadpool_limits(1, "blas"):
        return ANCHORS[name].predict(known)


def _rows(known: Known, name: str, said: AnchorShares) -> pd.DataFrame:
    """A row for each asked cell of which the anchor says something, in the form of anchors.parquet."""
    answered = [row for row, shares in enumerate(said.shares) if np.isfinite(shares).all()]
    table = pd.DataFrame(
        {
            "anchor": name,
            "group": [known.groups[known.asked[0][row]].id for row in answered],
            "question_id": [known.questions[known.asked[1][row]].id for row in answered],
            "probabilities": [said.shares[row] for row in answered],
        }
    )
    return table.astype({"group": str, "question_id": str})  # also where there is no row


def _for_people(rows: pd.DataFrame, survey: Survey) -> pd.DataFrame:
    seen = {group.id: group.role == "seen" for group in survey.groups}
    asked = survey.with_roles(ASKED_ROLES)
    people = survey.people[survey.people["part"] == "test"]
    long = people.melt(["person", "group"], [one.id for one in asked], "question_id", "answer")
    table = long[long["answer"] != NO_ANSWER].merge(rows, on=["group", "question_id"], validate="many_to_one")
    table = table.assign(seen=table["group"].map(seen), option_mass=1.0)
    columns = ["person", "group", "seen", "question_id", "answer", "probabilities", "option_mass"]
    if any(one.role != "seen" for one in asked):
        table[ITEM_SEEN] = table["question_id"].map({one.id: one.role == "seen" for one in asked})
        columns.append(ITEM_SEEN)
    return table[columns].sort_values("person", kind="stable", ignore_index=True)


def absent(known: Known, name: str) -> str:
    """Why an anchor cannot say anything here; "" if it can."""
    needs = ANCHORS[name].needs
    if needs == "encoder" and known.texts is None:
        return f"the sentence encoder is missing: {known.no_encoder}"
    if needs == "people" and not known.counted:
        return "the data do not say how many people a share is of"
    if needs == "own cells" and not set(zip(*known.asked, strict=True)) & set(
        zip(known.training.group, known.training.question, strict=True)
    ):
        return "no cell that is asked was trained on"
    if needs == "held-out items" and np.isin(known.asked[1], known.trained).all():
        return "no item is held out"
    if len(known.trained) > ANCHORS[name].most:
        return f"one regression for each of {len(known.trained)} questions takes too long beside every evaluation"
    return "" if len(known.training) or name in ("uniform", "average") else "nothing was trained on"


def beside(
    known: Known, predictions: pd.DataFrame, questions: Sequence[Any], design: Design | None = None
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Every anchor beside a model's predictions: what anchors.parquet holds, and what scores.json does:

    {anchor: {"label", "description", "items": {source: n}, "left_out": training cells, side: {"soft_emd"}, "corners":
    {corner: {"soft_emd"}}}}, or {"label", "description", "absent": why}. Of a side or a corner of which an anchor says
    something of a part only, nothing is kept: the figure would be of other cells than the model's.
    """
    silent = {name: absent(known, name) for name in ANCHORS}
    names = [name for name, why in silent.items() if not why]
    told: dict[str, AnchorShares] = {}
    with tqdm(total=len(names) + 1, desc="Fitting anchors") as bar:
        for name in names:
            try:
                told[name] = _fitted(name, known)
            except BenchmarkError as error:  # too little to fit it on, which must not cost what a model answered
                silent[name] = str(error)
            bar.update()
        rows = {name: _rows(known, name, said) for name, said in told.items()}
        tables = {name: _whole_parts(predictions_of(part, predictions), predictions) for name, part in rows.items()}
        bar.set_description("Scoring anchors")
        scores = score_many(tables, questions, design=design)["scores"]
        bar.update()
    cells = {name: table[["group", "question_id"]].drop_duplicates() for name, table in tables.items()}
    kept = pd.concat([rows[name].merge(cells[name]) for name in told], ignore_index=True)
    return kept, {name: _entry(name, told.get(name), scores.get(name, {}), silent[name]) for name in ANCHORS}


def _whole_parts(table: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows of those parts, new or old items × groups, of which the table has all rows that the predictions have."""
    by = [column for column in (ITEM_SEEN, "seen") if column in predictions]
    wanted = table.join(predictions.groupby(by).size().rename("rows"), on=by)["rows"]
    return table[table.groupby(by)["group"].transform("size").to_numpy() == wanted.to_numpy()]


def _entry(name: str, said: AnchorShares | None, scores: Mapping[str, Any], why: str) -> dict[str, Any]:
    about = {"label": ANCHORS[name].label, "description": ANCHORS[name].description}
    if said is None:
        return {**about, "absent": why}
    return {
        **about,
        "items": dict(said.items),
        "left_out": said.left_out,
        **{side: {SHOWN: scores[side][SHOWN]} for side in ("seen", "unseen") if side in scores},
        "corners": {corner: {SHOWN: part[SHOWN]} for corner, part in scores.get("corners", {}).items()},
    }


ANCHORS: dict[str, Anchor] = {
    "uniform": Anchor("uniform", "Every option is as likely as every other: nothing is known.", _uniform),
    "average": Anchor(
        "training average",
        "Everybody gets the item's average over training: pure mean collapse. A new item gets that of the training "
        "items with the same options, or where there is none, every option alike.",
        lambda known: same_for_all(known, average),
        of_many_items=True,
    ),
    "position": Anchor(
        "average by position",
        "The item's average; a new ordinal item gets the average by position over training items with as many options.",
        lambda known: same_for_all(known, position),
        "held-out items",
        of_many_items=True,
    ),
    "counts": Anchor(
        "own training counts",
        "Each seen group gets the answers of its own training people; groups not seen in training get none.",
        question_anchors.own_counts,
        "own cells",
    ),
    "logistic": Anchor(
        "logistic regression",
        "An additive logistic regression on the fields of the profile, fitted to the training people's answers.",
        question_anchors.logistic,
        most=12,
    ),
    "pairs": Anchor(
        "logistic regression on pairs",
        "A logistic regression on the fields of the profile and on every pair of them.",
        question_anchors.logistic_on_pairs,
        most=12,
    ),
    "process": Anchor(
        "Gaussian process",
        "A Gaussian process on the fields of the profile, fitted to the training people's answers.",
        question_anchors.process,
        "people",
        most=100,
    ),
    "mrp": Anchor(
        "multilevel regression (MRP)",
        "Multilevel regression and post-stratification: effects of the profile's fields and of pairs of them, pooled.",
        question_anchors.mrp,
        "people",
        most=100,
    ),
    "ridge": Anchor(
        "ridge regression",
        "A ridge regression from the embedding of the profile to the training people's answers.",
        question_anchors.ridge,
        "encoder",
    ),
    "low_rank": Anchor(
        "low-rank completion",
        "A low-rank completion of the table groups × items; new groups through their fields, new items the average.",
        low_rank,
        of_many_items=True,
    ),
    "ridge_items": Anchor(
        "ridge regression on fields × item text",
        "One ridge regression over all items, on the profile's fields, the item, and fields × the wording's embedding.",
        ridge_on_items,
        "encoder",
        of_many_items=True,
    ),
    "process_fields": Anchor(
        "Gaussian process on fields × item text",
        "One Gaussian process over all items, on the profile's fields × the embedding of the item's wording.",
        process_on_fields,
        "encoder",
        of_many_items=True,
    ),
    "process_texts": Anchor(
        "Gaussian process on both texts",
        "One Gaussian process over all items, on the embeddings of the profile's sentence × of the item's wording.",
        process_on_texts,
        "encoder",
        of_many_items=True,
    ),
}
