"""How far groups' gradients agree while a model learns: between groups that answer most differently, and most alike.

A gradient is that of the SFT loss on a third of a group's training people, each question in all of its orders. Cosines
are taken between different thirds, so that no pair shares people, and divided by the cosine between thirds of one
group (Spearman's correction for attenuation): 1 means "as like as the same group's own people", whatever the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from expert_sides import gate_table

from cuma.answering.materials import Materials, profile_in_prompt
from cuma.data.surveys.survey import Survey
from cuma.evaluation.asking import asking_of
from cuma.evaluation.gradients import adapter_parameters, batch_gradient, group_batches, largest_groups, with_gradients
from cuma.metrics import emd
from cuma.metrics.inference import GroupDraws
from cuma.metrics.pointwise import Floats, ratio
from cuma.recipes.schema import Recipe

GROUPS = 16
"""The largest seen groups are compared."""
SHARE = 0.15
"""Of the pairs of groups: so many count as most different, and as most alike."""
DRAWS, SEED = 500, 0
PLACES = {"dense": "frozen", "adapter": "trained", "expert": "trained", "router": "router"}
"""Kinds of parameters → place in the tables: where a dense update of the weights would go, and what is trained."""


def conflict_point(model: Any, recipe: Recipe, materials: Materials) -> dict[str, Any]:
    """Place → figure → {"value", "error"}: one point of a training, on the model as it is.

    Places: frozen (the weights under the adapter), trained (the adapter, or all experts), each expert (every expert of
    every layer by itself, pairs of groups weighing as much as both use it), router.
    Figures: different, alike (the mean corrected cosine of those pairs), gap (the first less the second); and of what
    is left of a gradient when the mean over groups is taken out, not corrected, because too little is left to divide
    by: own different, own alike, own gap, and own same, the cosine between thirds of one group, which is the most that
    noise allows.
    """
    survey = materials.survey
    names = largest_groups(survey, GROUPS)
    batches = [group_batches(survey, name, SEED, profile_in_prompt(recipe)) for name in names]
    asking = asking_of(model, recipe, materials, survey)
    kinds = adapter_parameters(model, recipe.adapter.target_modules, recipe.adapter.last_layers)
    units = _units(model)
    vectors: dict[str, list[Any]] = {}
    with with_gradients(kinds), materials.kept_trunk(recipe, model):
        for rows in (rows for group in batches for rows in group):
            for kind, vector in batch_gradient(asking, kinds, rows).items():
                vectors.setdefault(PLACES[kind], []).append(vector.numpy())
            for unit, slices in units.items():
                parts = [parameter.grad[expert].flatten() for parameter, expert in slices]
                vectors.setdefault(unit, []).append(torch.cat(parts).numpy().copy())
    number = len(batches[0])
    grams = {place: _gram(vectors.pop(place), len(names), number) for place in list(vectors)}
    pairs = pairs_of(survey, names)
    single = {
        place: figures([grams[place]], None, pairs) for place in ("frozen", "trained", "router") if place in grams
    }
    if units:
        used = gate_table(model, recipe, materials, names)
        use = used.pivot_table(index="group", columns=["layer", "expert"], values="gate", aggfunc="mean").loc[names]
        weights = [use[_layer_of(unit, use), expert].to_numpy() for unit, expert in ((u[0], u[1]) for u in units)]
        single["each expert"] = figures([grams[unit] for unit in units], weights, pairs)
    return single


def pairs_of(survey: Survey, names: Sequence[str]) -> dict[str, Any]:
    """Name ("different", "alike") → [G, G] bool, in the upper triangle: the pairs of groups with the largest, and with
    the smallest, mean EMD between their training answers, over the items that training has."""
    counts = survey.counts("train", ("seen",))
    shares = {(row.group, row.question_id): row.counts / max(1, row.counts.sum()) for row in counts.itertuples()}
    distance = np.full((len(names), len(names)), np.nan)
    for one, first in enumerate(names):
        for two, second in enumerate(names[one + 1 :], one + 1):
            both = [
                float(emd(shares[first, q.id], shares[second, q.id], ordinal=q.ordinal))
                for q in survey.with_roles(("seen",))
                if {(first, q.id), (second, q.id)} <= shares.keys()
                and min(shares[g, q.id].sum() for g in (first, second)) > 0
            ]
            distance[one, two] = np.mean(both) if both else np.nan
    low, high = np.nanquantile(distance, [SHARE, 1 - SHARE])
    return {"different": distance >= high, "alike": distance <= low}


def figures(grams: Sequence[Floats], use: Sequence[Floats] | None, pairs: dict[str, Any]) -> dict[str, Any]:
    """The figures of `conflict_point` for one place.

    Args:
        grams: [G, B, G, B] inner products of the groups' batches' gradients, of each part of the place.
        use: [G] how much each group uses each part; None: all alike.
        pairs: from `pairs_of`.
    """
    groups = len(grams[0])
    draws = GroupDraws.of(groups, DRAWS, SEED).times
    weights = [
        np.ones((groups, groups)) if use is None else np.sqrt(np.outer(use[k], use[k])) for k in range(len(grams))
    ]
    result: dict[str, Any] = {}
    for mark, prepared in (("", grams), ("own ", [_centred(gram) for gram in grams])):
        above, below, weight = _sums(prepared, weights)
        found = {}
        for name, chosen in pairs.items():
            under = weight if mark else below
            found[name] = [_of_pairs(above, under, chosen, times) for times in (np.ones((groups, 1)), draws)]
        found["gap"] = [found["different"][k] - found["alike"][k] for k in (0, 1)]
        if mark:
            every = np.eye(groups, dtype=bool)
            found["same"] = [_of_pairs(above, weight, every, times) for times in (np.ones((groups, 1)), draws)]
        for name, (value, replicates) in found.items():
            known = np.isfinite(value[0])
            error = float(np.nanstd(replicates)) * np.sqrt(groups / (groups - 1))
            result[mark + name] = {"value": float(value[0]) if known else None, "error": error if known else None}
    return result


def _of_pairs(above: Floats, under: Floats, chosen: Any, times: Floats) -> Floats:
    """[B]: the sum of `above` over that of `under`, over the chosen pairs, groups counted `times` [G, B]."""
    one, two = np.nonzero(chosen)
    often = np.where((one == two)[:, None], times[one], times[one] * times[two])
    return ratio((above[one, two][:, None] * often).sum(0), (under[one, two][:, None] * often).sum(0))


def _sums(grams: Sequence[Floats], weights: Sequence[Floats]) -> tuple[Floats, Floats, Floats]:
    """[G, G] over the parts: the summed weighted cosines of pairs (on the diagonal between a group's own batches), what
    they would be if pairs were one group, and the weights."""
    groups, number = grams[0].shape[:2]
    apart = ~np.eye(number, dtype=bool)
    above, below, whole = np.zeros((3, groups, groups))
    for gram, weight in zip(grams, weights, strict=True):
        length = np.sqrt(np.einsum("gbgb->gb", gram))
        cosine = ratio(gram, length[:, :, None, None] * length[None, None])
        mean = np.moveaxis(cosine, 2, 1)[:, :, apart].mean(axis=-1)
        within = np.diag(mean)
        there = np.isfinite(mean) & np.isfinite(within[:, None] + within[None])
        above += np.where(there, weight * np.nan_to_num(mean), 0)
        below += np.where(there, weight * np.nan_to_num(within[:, None] + within[None]) / 2, 0)
        whole += np.where(there, weight, 0)
    return above, below, whole


def _centred(gram: Floats) -> Floats:
    """Inner products of the gradients less, for each batch number, their mean over groups."""
    groups, number = gram.shape[:2]
    take_out = np.eye(groups) - 1 / groups
    return np.asarray(np.einsum("gh,hbkc,kl->gblc", take_out, gram, take_out, optimize=True)).reshape(
        groups, number, groups, number
    )


def _gram(vectors: list[Any], groups: int, number: int) -> Floats:
    stacked = np.stack(vectors).astype(np.float32)
    return (stacked @ stacked.T).astype(np.float64).reshape(groups, number, groups, number)


def _units(model: Any) -> dict[tuple[str, int], list[tuple[Any, int]]]:
    """(block of the model, expert) → the parameters that hold it, with the expert's place in their first dimension."""
    units: dict[tuple[str, int], list[tuple[Any, int]]] = {}
    for name, parameter in model.named_parameters():
        if ".cuma_experts." in name and parameter.dim() == 3 and parameter.shape[0] > 1:
            block = name.partition(".self_attn.")[0]
            for expert in range(len(parameter)):
                units.setdefault((block, expert), []).append((parameter, expert))
    return units


def _layer_of(block: str, use: pd.DataFrame) -> str:
    """The name under which a block's gates were recorded: that of the layer that owns its router."""
    number = block.rpartition(".layers.")[2]
    return next(layer for layer in use.columns.get_level_values("layer").unique() if f"layers.{number}." in layer)
