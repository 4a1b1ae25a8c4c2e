"""`cuma evaluate --gradients`: do groups pull the same parameters in different directions, and do experts change that?

At one and the same model each group's training loss has a gradient in the frozen weights under the adapter (where a
dense update would go) and in the experts' parameters (where the gates have sent it). Their cosines between groups say
how much the groups' updates would agree there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor, nn
from tqdm.auto import tqdm

from cuma.answering.letters import answer_logits, survey_loss
from cuma.answering.materials import Materials, profile_in_prompt
from cuma.data.surveys.prompts import question_orders, survey_messages
from cuma.data.surveys.survey import NO_ANSWER, Survey
from cuma.errors import BenchmarkError, UnsupportedError
from cuma.evaluation.asking import asking_of, load_model
from cuma.evaluation.predict import LocalModel
from cuma.evaluation.subject import Subject
from cuma.metrics.cosines import Cosines
from cuma.metrics.figures import estimate_text
from cuma.runs.folder import write_json

N_BATCHES = 3
"""Batches of each group: its training people, dealt into so many parts."""
MAX_QUESTIONS = 16
"""Questions of one batch; the same ones for all groups and batches."""
MAX_GROUPS = 24
"""The largest groups are taken: small ones have noisy gradients."""
EXACT = 2**21
"""A gradient with more numbers is folded into so many by random signs, which keeps cosines to about 0.001."""

KINDS = ("dense", "expert", "router", "adapter")
_MARKS = {"expert": ".cuma_experts.", "router": ".cuma_router."}


def evaluate_gradients(subject: Subject, materials: Materials | None = None, seed: int = 0) -> dict[str, Any]:
    """Measure how much groups' gradients agree, by kind of parameter; written to gradients.json beside the scores.

    Returns what docs/evaluation-files.md says of gradients.json.

    Raises:
        BenchmarkError: fewer than two groups have enough training people.
        UnsupportedError: the frozen weights are quantised, and have no gradient.
    """
    folder, recipe = subject.folder, subject.recipe
    subject.require_local()
    materials = materials or Materials.load(recipe)
    groups = largest_groups(materials.survey)
    batches = {name: group_batches(materials.survey, name, seed, profile_in_prompt(recipe)) for name in groups}
    vectors: dict[str, list[list[Tensor]]] = {}
    with load_model(subject, materials) as model:
        asking = asking_of(model, recipe, materials, materials.survey)
        kinds = adapter_parameters(model, recipe.adapter.target_modules, recipe.adapter.last_layers)
        with with_gradients(kinds), materials.kept_trunk(recipe, model):
            for name in tqdm(groups, desc=f"{subject.run.info['label']}: gradients", unit="group"):
                for rows in batches[name]:
                    for kind, vector in batch_gradient(asking, kinds, rows).items():
                        vectors.setdefault(kind, [[] for _ in groups])[groups.index(name)].append(vector)
    result = _result(vectors, {kind: sum(p.numel() for p in ps) for kind, ps in kinds.items()}, groups, seed)
    result["questions_per_batch"] = len({row["question_id"] for row in next(iter(batches.values()))[0]})
    write_json(folder / "gradients.json", result)
    return result


# --- whose gradients -------------------------------------------------------------------------------------------------


def largest_groups(survey: Survey, most: int = MAX_GROUPS) -> list[str]:
    """Seen groups with a training person for every batch, at most so many, the largest; sorted by name."""
    trained = survey.people[survey.people["part"] == "train"]
    items = [question.id for question in survey.with_roles(("seen",))]
    respondents = trained[(trained[items] != NO_ANSWER).any(axis=1)]
    sizes = respondents["group"].value_counts()
    names = [group.id for group in survey.groups if group.role == "seen" and sizes.get(group.id, 0) >= N_BATCHES]
    names = sorted(names, key=lambda name: (-sizes[name], name))[:most]
    if len(names) < 2:
        raise BenchmarkError(
            f"{survey.name}: {len(names)} groups have {N_BATCHES} training people or more; gradients of at least two "
            "are compared."
        )
    return sorted(names)


def group_batches(survey: Survey, group: str, seed: int, in_prompt: bool) -> list[list[dict[str, Any]]]:
    """Each batch's rows: a question in one of its orders, and how the batch's people answered it.

    People are dealt out at random. All batches ask the same questions, each in all of its orders, so that what sets two
    of them apart is their people alone. A question that nobody of a batch answered is not in it.
    """
    profile = next(one.profile for one in survey.groups if one.id == group)
    members = survey.people[(survey.people["group"] == group) & (survey.people["part"] == "train")]
    dealt = np.random.default_rng([seed, 2]).permutation(len(members)) % N_BATCHES
    questions = survey.with_roles(("seen",))
    drawn = np.random.default_rng([seed, 3]).permutation(len(questions))[:MAX_QUESTIONS]
    batches = []
    for number in range(N_BATCHES):
        people = members[dealt == number]
        rows = []
        for question in (questions[place] for place in sorted(drawn)):
            answers = people.loc[people[question.id] != NO_ANSWER, question.id]
            if len(answers):
                shares = np.bincount(answers, minlength=len(question.options)) / len(answers)
                orders = question_orders(question)
                rows += [
                    {
                        "question_id": question.id,
                        "prompt": survey_messages(question, order, profile.sentence if in_prompt else None),
                        "profile": profile.fields,
                        "weights": [shares[option] for option in order],
                        "orders": len(orders),
                    }
                    for order in orders
                ]
        batches.append(rows)
    return batches


# --- gradients -------------------------------------------------------------------------------------------------------


def adapter_parameters(
    model: nn.Module, targets: Sequence[str], last_layers: int | None
) -> dict[str, list[nn.Parameter]]:
    """Kind → its parameters. Without an adapter: the weights that the recipe's adapter would sit on."""
    named = dict(model.named_parameters())
    by_kind: dict[str, list[nn.Parameter]] = {kind: [] for kind in KINDS}
    for name, parameter in named.items():
        kind = next((kind for kind, mark in _MARKS.items() if mark in name), None)
        if kind is None and name.endswith(".base_layer.weight"):
            kind = "dense"
        elif kind is None and (".lora_" in name or ".modules_to_save." in name or "prompt_encoder" in name):
            kind = "adapter"
        if kind is not None:
            by_kind[kind].append(parameter)
    if not by_kind["dense"]:
        by_kind["dense"] = _would_be_adapted(model, targets, last_layers)
    if not all(parameter.is_floating_point() for parameter in by_kind["dense"]):
        raise UnsupportedError("quantised weights have no gradient. Measure with backbone.quantization=null.")
    return {kind: parameters for kind, parameters in by_kind.items() if parameters}


def _would_be_adapted(model: nn.Module, targets: Sequence[str], last_layers: int | None) -> list[nn.Parameter]:
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    layers = list(base.get_decoder().layers)
    kept = layers if last_layers is None else layers[-last_layers:]
    modules = [module for layer in kept for name, module in layer.named_modules() if name.rpartition(".")[2] in targets]
    return [parameter for module in modules for name, parameter in module.named_parameters() if name.endswith("weight")]


@contextmanager
def with_gradients(kinds: Mapping[str, list[nn.Parameter]]) -> Iterator[None]:
    """Inside, these parameters have gradients; afterwards they are frozen as they were."""
    everything = [parameter for parameters in kinds.values() for parameter in parameters]
    before = [parameter.requires_grad for parameter in everything]
    try:
        for parameter in everything:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter, wanted in zip(everything, before, strict=True):
            parameter.grad = None
            parameter.requires_grad_(wanted)


def batch_gradient(
    asking: LocalModel, kinds: Mapping[str, list[nn.Parameter]], rows: Sequence[Mapping[str, Any]]
) -> dict[str, Tensor]:
    """Kind → the gradient of the SFT loss on one batch, a mean over its questions, as one fp32 vector."""
    tokens, model = asking.tokens, asking.model
    questions = len({row["question_id"] for row in rows})
    for parameters in kinds.values():
        for parameter in parameters:
            parameter.grad = None
    for start in range(0, len(rows), asking.batch_size):
        part = rows[start : start + asking.batch_size]
        device = next(model.parameters()).device
        batch = {name: t.to(device) for name, t in tokens.batch([tokens.prompt(row["prompt"]) for row in part]).items()}
        people = {} if asking.table is None else {"profile_embeds": asking.table([row["profile"] for row in part])}
        logits, _ = answer_logits(model, batch, **people)
        losses = [
            survey_loss(
                scores[None],
                torch.tensor([tokens.letters(len(row["weights"]))], device=device),
                torch.tensor([row["weights"]], dtype=torch.float32, device=device),
            )
            / row["orders"]
            for row, scores in zip(part, logits, strict=True)
        ]
        (torch.stack(losses).sum() / questions).backward()
    return {kind: _vector(parameters) for kind, parameters in kinds.items()}


def _vector(parameters: Sequence[nn.Parameter]) -> Tensor:
    """[n] of all gradients; where there are more than `EXACT`, [EXACT] sums of random numbers of them with random
    signs (a count sketch, which keeps inner products: Charikar et al. 2002)."""
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    if sum(part.numel() for part in parts) <= EXACT:
        return torch.cat([part.detach().float().flatten().cpu() for part in parts])
    folded = torch.zeros(EXACT)
    for place, part in enumerate(parts):
        generator = torch.Generator().manual_seed(place)
        where = torch.randint(EXACT, (part.numel(),), generator=generator)
        sign = torch.randint(2, (part.numel(),), generator=generator, dtype=torch.float32) * 2 - 1
        folded.index_add_(0, where, part.detach().float().flatten().cpu() * sign)
    return folded


# --- the figures -----------------------------------------------------------------------------------------------------


def _result(
    vectors: Mapping[str, list[list[Tensor]]], sizes: Mapping[str, int], groups: list[str], seed: int
) -> dict[str, Any]:
    stacked = {kind: np.stack([torch.stack(batches).numpy() for batches in vectors[kind]]) for kind in vectors}
    cosines = {kind: Cosines.of(gradients, seed) for kind, gradients in stacked.items()}
    result: dict[str, Any] = {"seed": seed, "n_batches": N_BATCHES, "groups": groups, "n_groups": len(groups)}
    for kind in KINDS:
        result[kind] = {"parameters": sizes[kind], **cosines[kind].entries()} if kind in cosines else None
    result["difference"] = cosines["expert"].minus(cosines["dense"]) if "expert" in cosines else None
    result["sentence"] = _sentence(result)
    return result


def _sentence(result: Mapping[str, Any]) -> str:
    if result["dense"]["agreement"]["value"] is None:
        return "A group's own batches do not agree on where to go: nothing but noise, as at the end of training."
    dense = _shown(result["dense"]["agreement"])
    share = result["dense"]["conflicting"]["value"]
    text = (
        f"In the dense weights two groups' gradients have a mean cosine of {dense}, corrected for the noise of their "
        f"batches; {share:.0%} of pairs conflict."
    )
    if result["expert"] is None:
        return f"{text} There are no experts to compare with."
    expert, share = _shown(result["expert"]["agreement"]), result["expert"]["conflicting"]["value"]
    text += f" In the experts' parameters: {expert}, {share:.0%}."
    difference = result["difference"]
    if difference["value"] is None or difference["high"] is None:
        return text
    if difference["high"] < 0:
        return f"{text} The experts keep groups' gradients apart: {_shown(difference)}."
    if difference["low"] > 0:
        return f"{text} The experts do not keep groups' gradients apart; they agree more there: {_shown(difference)}."
    return f"{text} No difference that the intervals show: {_shown(difference)}."


def _shown(entry: Mapping[str, Any]) -> str:
    return "nothing but noise" if entry["value"] is None else estimate_text(entry, 2)
