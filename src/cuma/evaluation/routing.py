"""What a router learned: how groups lie in gate space, and what moves them there. Written to topology.json.

An untrained router separates groups as well (its gates are some function of the embedding), so no figure here is
evidence that a method works; together they say what the routing follows: people's answers, or only their profiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cuma.answering.materials import Materials
from cuma.data.surveys.survey import Survey
from cuma.errors import RunError
from cuma.evaluation.asking import TEST_ROLES, load_model, predict
from cuma.evaluation.counterfactuals import Change, answer_changes, changes
from cuma.evaluation.routing_spaces import describe
from cuma.evaluation.subject import Subject
from cuma.metrics import emd
from cuma.metrics.distance_tables import field_shares
from cuma.metrics.pointwise import Floats
from cuma.privacy.small_groups import MIN_PEOPLE
from cuma.runs.evidence import Evidence, read_evaluation
from cuma.runs.folder import write_json
from cuma.runs.gate_space import GateSpace, gate_space
from cuma.runs.group_answers import predicted_answers, true_answers


def evaluate_topology(subject: Subject, materials: Materials | None = None) -> dict[str, Any]:
    """Relate a mixture's routing to answers, embeddings and profile fields; written to topology.json beside the scores.

    Args:
        subject: the run, evaluated like this.
        materials: loaded parts, if there are any already.

    Returns:
        what topology.json holds; see docs/report.md. Groups that a report may not show are not in it.

    Raises:
        RunError: the run is not evaluated, is no mixture, or has under 4 groups that may be shown.
    """
    run, recipe, folder = subject.run, subject.recipe, subject.folder
    if not (folder / "routing.parquet").is_file():
        raise RunError(f"{folder} has no routing: its model has no experts, so there is no topology to measure.")
    evidence = read_evaluation(run, folder)
    space = gate_space(evidence.methods[0], set(true_answers(evidence)["group"]))
    if space is None:
        raise RunError(f"{folder} has under 4 groups of {MIN_PEOPLE} people or more: too few for a topology.")
    materials = materials or Materials.load(recipe)
    result = describe(space, evidence, embeddings(materials, space.groups), seed=recipe.seed)
    with load_model(subject, materials) as model:
        moved = answer_changes(
            materials.survey,
            changes(materials.survey, space.groups),
            lambda survey: predict(model, recipe, materials, "test", TEST_ROLES, every_order=True, survey=survey),
            progress=f"{run.info['label']}: changing profiles",
        )
    movements = [_movement(*each, space, evidence) for each in moved]
    result |= {
        "fields": _fields(movements, space, materials.survey),
        "counterfactuals": movements,
        "unchanged": _unchanged({movement["group"] for movement in movements}, space, evidence),
        "twins": _twins([change for change, _, _ in moved], movements, space, evidence, materials.survey),
    }
    write_json(folder / "topology.json", result)
    return result


def embeddings(materials: Materials, groups: Sequence[str]) -> Floats:
    """[G, D] raw profile embeddings of the groups: what their profiles say, whatever a control's router was given."""
    profiles = {group.id: group.profile for group in materials.survey.groups}
    return np.asarray(materials.table([profiles[group] for group in groups]), dtype=np.float64)


def _movement(
    change: Change, cells: pd.DataFrame, routing: pd.DataFrame, space: GateSpace, evidence: Evidence
) -> dict[str, Any]:
    """How far one change moves the gates (share of the mixture) and the answers (mean soft EMD)."""
    number = space.groups.index(change.group)
    predicted = {row.question_id: np.asarray(row.probabilities) for row in cells.itertuples()}
    before = predicted_answers(evidence.methods[0])
    ordinal = {question["id"]: question["ordinal"] for question in evidence.questions}
    apart = [emd(p, before[change.group, q], ordinal[q]) for q, p in predicted.items() if (change.group, q) in before]
    table = routing.pivot_table(index="layer", columns="expert", values="gate", fill_value=0.0)
    gates = table.reindex(index=space.layers, columns=range(space.gates.shape[2]), fill_value=0.0).to_numpy()
    return {
        "group": number,
        "field": change.field,
        "before": change.before,
        "after": change.after,
        "gates_moved": float(np.abs(gates - space.gates[number]).sum() / (2 * len(gates))),
        "answers_moved": float(np.mean(apart)),
        "gates": np.round(gates.mean(axis=0), 4).tolist(),
        "answers": {question: np.round(p, 4).tolist() for question, p in predicted.items()},
    }


def _unchanged(groups: set[int], space: GateSpace, evidence: Evidence) -> dict[str, Any]:
    """Gates and answers of the groups whose profiles were changed, as they are."""
    before = predicted_answers(evidence.methods[0])
    facts = {}
    for number in sorted(groups):
        answers = {q: np.round(p, 4).tolist() for (group, q), p in before.items() if group == space.groups[number]}
        facts[str(number)] = {
            "gates": np.round(space.gates[number].mean(axis=0), 4).tolist(),
            "answers": answers,
        }
    return facts


def _fields(movements: Sequence[dict[str, Any]], space: GateSpace, survey: Survey) -> dict[str, Any]:
    """For every field: its share of the gates' variance between groups, and how far changes of it move on average."""
    profiles = {group.id: group.profile.fields for group in survey.groups}
    names = list(dict.fromkeys(movement["field"] for movement in movements))
    columns = {name: _one_hot([profiles[group].get(name) for group in space.groups]) for name in names}
    varied = {name: block for name, block in columns.items() if block.shape[1] > 1}
    shares = field_shares(varied, space.gates.reshape(len(space.groups), -1)) or {}
    return {
        name: {
            "share": shares.get(name),
            "changed": _average([m for m in movements if m["field"] == name and m["after"] is not None]),
            "left_out": _average([m for m in movements if m["field"] == name and m["after"] is None]),
        }
        for name in names
    }


def _one_hot(values: Sequence[str | None]) -> Floats:
    known = sorted({value for value in values if value is not None})
    return np.array([[value == option for option in known] for value in values], dtype=np.float64)


def _average(movements: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if not movements:
        return {"gates": None, "answers": None, "n": 0}
    means = {what: float(np.mean([m[f"{what}_moved"] for m in movements])) for what in ("gates", "answers")}
    return {**means, "n": len(movements)}


def _twins(
    made: Sequence[Change], movements: Sequence[dict[str, Any]], space: GateSpace, evidence: Evidence, survey: Survey
) -> dict[str, Any]:
    """Where the changed profile is another group's: does the model move as people differ?

    Returns:
        n pairs of groups, and the correlation over options of the model's movement with people's difference.
    """
    people = {(row.group, row.question_id): row.shares for row in true_answers(evidence).itertuples()}
    owner = {group.profile: group.id for group in survey.groups}
    before = predicted_answers(evidence.methods[0])
    model, truth, pairs = [], [], 0
    for change, movement in zip(made, movements, strict=True):
        other = owner.get(change.profile)
        both = [q for q in movement["answers"] if (change.group, q) in people and (other, q) in people]
        pairs += bool(both)
        for question in both:
            model += list(np.array(movement["answers"][question]) - before[change.group, question])
            truth += list(people[other, question] - people[change.group, question])
    differ = len(model) > 2 and np.std(model) > 0 and np.std(truth) > 0
    return {"n": pairs, "correlation": float(np.corrcoef(model, truth)[0, 1]) if differ else None}
