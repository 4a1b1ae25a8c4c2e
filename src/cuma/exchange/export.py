"""`cuma export`: a run and a person in, a standard PEFT LoRA (or a merged model) and a report out."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from tqdm.auto import tqdm

from cuma.answering.adapter_files import load_adapter
from cuma.answering.answerer import Answerer
from cuma.errors import ExportError, UnsupportedError
from cuma.exchange.calibration import Task, TaskTokens, rows_of, tasks_of
from cuma.exchange.gates import Cost, cost_of, cross_checked, gates_of_person, mean_gates
from cuma.exchange.lora import Gates, PersonLora, content_of, fold, mixture_layers, write_lora
from cuma.exchange.people_index import name_of, secret_of, write_index
from cuma.models.backbones import BACKBONES
from cuma.people.profiles import Profile
from cuma.runs.folder import write_json
from cuma.runs.machine import versions

REPORT = "export.json"
MAX_KL = 0.05
"""Nats of mean KL on held-out calibration tasks above which an approximate export is refused."""


@dataclass(frozen=True, eq=False)
class Exported:
    """One person's adapter, before it is written."""

    lora: PersonLora
    report: dict[str, Any]


def export_person(
    answerer: Answerer,
    profile: Profile,
    output: Path,
    *,
    calibration: Path | None = None,
    max_kl: float = MAX_KL,
    merge: bool = False,
) -> dict[str, Any]:
    """Write one person's LoRA into `output`, or with `merge` a plain model, and return the report beside it.

    Args:
        answerer: a mixture.
        profile: the person.
        output: a folder that is absent or empty.
        calibration: JSONL file of prompts, for routers that look at the tokens; None: the run's own questions.
        max_kl: the most an approximation may cost, in nats.
        merge: write a whole model, the LoRA added to its weights.

    Raises:
        ExportError: not a mixture, no calibration set, it would cost too much, or the folder is not empty.
        UnsupportedError: a base in few bits cannot be merged.
    """
    check_output(output)
    _check_merge(answerer, merge)
    made = fold_person(answerer, profile, _tasks(answerer, calibration), max_kl)
    _write(answerer, made, output, merge)
    return made.report


def export_people(
    answerer: Answerer,
    profiles: Sequence[Profile],
    output: Path,
    *,
    calibration: Path | None = None,
    max_kl: float = MAX_KL,
    merge: bool = False,
) -> list[dict[str, Any]]:
    """A folder of adapters, one for each distinct person, with an index (see `cuma.exchange.people_index`).

    Each is checked as in `export_person`. The index is written last, when everybody is there.
    """
    mixture_layers(answerer)
    _check_merge(answerer, merge)
    if answerer.encoder is None:
        raise ExportError(f"{answerer.source.folder} has a router that reads no profile: there is one LoRA for all.")
    people = list(dict.fromkeys(profiles))
    if not people:
        raise ExportError("There is nobody to export: the list of profiles is empty.")
    tasks, secret = _tasks(answerer, calibration), secret_of(output)
    entries = []
    for profile in tqdm(people, desc="Exporting people", unit="person", disable=len(people) < 5):
        made = fold_person(answerer, profile, tasks, max_kl)
        name = name_of(profile, content_of(made.lora), secret)
        _write(answerer, made, output / name, merge)
        entries.append({"hash": name, "rank": made.lora.rank, "exact": made.report["exact"]})
    mean = answerer.model.base_model.cuma_profile[answerer.adapter].mean
    write_index(output, entries, answerer.encoder(people), mean, answerer.encoder.spec)
    return entries


def fold_person(answerer: Answerer, profile: Profile, tasks: Sequence[Task], max_kl: float) -> Exported:
    """One person's LoRA with its report. Raises ExportError if fixing the gates costs more than `max_kl`."""
    mixture_layers(answerer)
    answerer.activate()
    config = answerer.config
    assert config is not None  # mixture_layers has checked
    embeds = answerer.embeds([profile])
    if config.router_input == "profile":
        assert embeds is not None  # such a router reads it
        lora = fold(answerer, gates_of_person(answerer, embeds), embeds)
        return Exported(lora, _report(answerer, lora, exact=True))
    rows = rows_of(answerer, tasks, profile)
    gates = mean_gates(answerer, rows, embeds)
    lora = fold(answerer, gates, embeds)
    return Exported(lora, _report(answerer, lora, exact=False) | _approximation(answerer, rows, embeds, gates, max_kl))


def _approximation(
    answerer: Answerer, rows: Sequence[TaskTokens], embeds: Tensor | None, gates: Gates, max_kl: float
) -> dict[str, Any]:
    """What fixed gates cost, on the calibration set and, for the decision, on tasks they were not averaged over."""
    cost, held_out = cost_of(answerer, rows, embeds, gates), cross_checked(answerer, rows, embeds)
    decisive = held_out or cost
    if decisive.kl > max_kl:
        raise ExportError(
            f"This router looks at the tokens too, and fixing its gates would cost {_in_words(decisive)}, more than "
            f"--max-kl {max_kl:g}. Serve the mixture itself (`cuma serve`), train with adapter.router_input=profile, "
            "whose export is exact, or allow more."
        )
    return {
        "calibration": {"tasks": len({row.task for row in rows}), "rows": len(rows)},
        "cost": cost.plain(),
        "held_out": None if held_out is None else held_out.plain(),
        "max_kl": max_kl,
        "gates": {layer: values.tolist() for layer, values in gates.items()},
    }


def _in_words(cost: Cost) -> str:
    emd = "" if cost.emd is None else f" and an EMD of {cost.emd:.4f}"
    return f"a mean KL of {cost.kl:.4f} nats{emd}"


def _report(answerer: Answerer, lora: PersonLora, *, exact: bool) -> dict[str, Any]:
    assert answerer.config is not None  # the caller has checked
    return {
        "exact": exact,
        "router_input": answerer.config.router_input,
        "profile_in": answerer.source.profile_in,
        "rank": lora.rank,
        "lora_alpha": lora.scaling * lora.rank,
        "layers": len(lora.layers),
        "base_model": base_name(answerer),
        "base_weights": answerer.backbone.name,
        "versions": versions(),
    }


def base_name(answerer: Answerer) -> str:
    """How other tools know the base model: by its Hub id, if it has one."""
    packaged = BACKBONES.get(answerer.backbone.name)
    return packaged.hub_id if packaged is not None and packaged.hub_id else answerer.backbone.name


def _tasks(answerer: Answerer, calibration: Path | None) -> list[Task]:
    mixture_layers(answerer)
    exact = answerer.config is not None and answerer.config.router_input == "profile"
    return [] if exact else tasks_of(answerer, calibration)


def check_output(output: Path) -> None:
    """Raises ExportError if a folder is taken."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ExportError(f"{output} is there already and not an empty folder. Name another one, or delete it.")


def _check_merge(answerer: Answerer, merge: bool) -> None:
    if merge and answerer.source.backbone.quantization is not None:
        raise UnsupportedError("A base in 4 or 8 bits cannot be merged: export the LoRA, and load it over that base.")
    if merge and answerer.config is not None and answerer.config.profile_in_experts:
        raise UnsupportedError(
            "Experts that read the profile add a bias, and the base's linear layers have none to merge it into. Export "
            "the LoRA (lora_bias), which stock PEFT loads."
        )


def _write(answerer: Answerer, made: Exported, folder: Path, merge: bool) -> None:
    assert answerer.config is not None  # it was folded
    if not merge:
        write_lora(made.lora, answerer.config, base_name(answerer), folder)
        write_json(folder / REPORT, made.report)
        return
    adapter = folder / "lora"
    write_lora(made.lora, answerer.config, base_name(answerer), adapter)
    merged = load_adapter(_bare_copy(answerer), adapter).merge_and_unload(safe_merge=True)
    merged.save_pretrained(folder)
    answerer.tokenizer.save_pretrained(folder)
    write_json(folder / REPORT, made.report)


def _bare_copy(answerer: Answerer) -> Any:
    """A copy of the frozen model without any adapter."""
    base = copy.deepcopy(answerer.model)
    assert isinstance(base, PeftModel)  # a mixture
    with torch.no_grad():
        return base.unload()
