"""One stage of a recipe as one of TRL's trainers: its configuration, its rows, its people."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import DPOConfig, GRPOConfig, SFTConfig

from cuma.answering.letters import SurveyTokens
from cuma.answering.materials import Data, Materials, profile_in_prompt
from cuma.data.catalog import is_folder
from cuma.data.corpus import Corpus, Shares
from cuma.data.surveys.answers import ANSWER_COLUMNS, preference_pairs, survey_answers
from cuma.data.surveys.cells import askable, share_cells, survey_cells
from cuma.data.surveys.partial import FieldDropout, full_profile
from cuma.data.surveys.prompts import LETTERS, told_who_asks
from cuma.data.surveys.survey import Group
from cuma.errors import BenchmarkError
from cuma.people.profile_table import ProfileTable
from cuma.people.profiles import FIELDS, Profile
from cuma.recipes.schema import DpoSection, GrpoSection, Recipe, TrainingSection
from cuma.training.batches import PROFILE, tokenise_answers, tokenise_cells
from cuma.training.passes import in_passes, without_items
from cuma.training.processes import on_cpu, processes
from cuma.training.rewards import REWARDS
from cuma.training.trainers import CumaDPOTrainer, CumaGRPOTrainer, CumaSFTTrainer

logger = logging.getLogger(__name__)
PART, ROLES = "train", ("seen",)
"""Whose answers are trained on, in every stage."""


CONVERSATION = ("prompt", "completion", "chosen", "rejected", "reference", PROFILE)
"""What is kept of a built folder's own rows."""


def grpo_columns(benchmark: str) -> tuple[str, ...]:
    """What a benchmark's rows for the grpo stage have, as `data.benchmark` names it. Raises BenchmarkError."""
    rows = Corpus.open(benchmark).training_rows("grpo") if is_folder(benchmark) else None
    return ANSWER_COLUMNS if rows is None else tuple(name for name in rows.column_names if name in CONVERSATION)


def stage_folders(recipe: Recipe) -> dict[str, str]:
    """Folder ("01-sft") → stage ("sft"), in the order in which they run."""
    return {f"{place:02d}-{stage}": stage for place, stage in enumerate(recipe.pipeline, 1)}


def stage_trainer(
    stage: str, recipe: Recipe, folder: Path, model: Any, materials: Materials, table: ProfileTable | None
) -> Any:
    """The trainer of one stage.

    Args:
        stage: "sft", "dpo" or "grpo".
        recipe: says how.
        folder: where checkpoints go.
        model: the PeftModel to train; dpo and grpo start from, and measure against, the adapter as it comes in.
        materials: the loaded parts.
        table: the embeddings that the router reads, if it reads any.
    """
    tokenizer = materials.backbone.tokenizer
    rows = stage_rows(stage, recipe, materials)
    if table is not None and (recipe.training.profile_dropout or materials.corpus is not None):
        table = table.covering(rows[PROFILE])  # whoever the groups' own profiles do not describe
    common: dict[str, Any] = {"train_dataset": rows, "processing_class": tokenizer, "profile_table": table}
    if stage == "sft":
        return CumaSFTTrainer(model, sft_config(recipe, folder), **common)
    if stage == "dpo":
        return CumaDPOTrainer(model, dpo_config(recipe, folder), **common)
    reward = REWARDS[recipe.grpo.reward].make(recipe)
    return CumaGRPOTrainer(model, reward, grpo_config(recipe, folder), **common)


def stage_rows(stage: str, recipe: Recipe, materials: Materials) -> Dataset:
    """What one stage trains on: tokenised survey rows for sft, pairs for dpo, prompts with answers for grpo."""
    require_rows(stage, recipe, materials)
    own = _conversations(stage, recipe, materials)
    if own is not None:
        return _limited(own, recipe)
    tokens = SurveyTokens(materials.backbone.tokenizer)
    if stage == "sft" and recipe.training.loss != "letter":
        return tokenise_cells(_cells(recipe, materials), tokens, counts=recipe.training.loss == "counts")
    answers = survey_answers(
        materials.survey,
        PART,
        ROLES,
        profile_in_prompt=profile_in_prompt(recipe),
        seed=recipe.seed,
        weighted=recipe.data.survey_weights,
        profile_of=_profile_of(recipe),
    )
    answers = _limited(answers, recipe)
    if stage == "sft":
        kept = without_items(answers, lambda: answers, recipe) if recipe.training.item_dropout else answers
        return tokenise_answers(kept, tokens)
    return preference_pairs(answers, seed=recipe.seed) if stage == "dpo" else answers


def require_rows(stage: str, recipe: Recipe, data: Materials | Data) -> None:
    """Raises `BenchmarkError` if a stage has nothing to train on, or no items to leave out. Reads no rows."""
    own = _own_rows(stage, recipe, data)
    if own is not None and stage == "sft" and recipe.training.item_dropout:
        raise BenchmarkError(
            f"training.item_dropout leaves out items of a survey, and sft takes the conversations of "
            f"{recipe.data.benchmark}. Set it to 0."
        )
    if data.survey.questions or own or shares_to_train(stage, recipe, data):
        if recipe.data.survey_weights and stage == "sft" and own is None:
            data.survey.require_weights()
        return
    benchmark, loss = recipe.data.benchmark, recipe.training.loss
    if data.corpus is not None and data.corpus.training_shares() is not None:
        if stage != "sft":
            raise BenchmarkError(
                f"{benchmark} has shares of whole groups (task distribution) and nobody's own answers, so that only "
                f"sft can train on it. Leave {stage} out of the pipeline."
            )
        needs = "single people's answers" if loss == "letter" else "n, how many people the shares are of, in every row"
        raise BenchmarkError(
            f"{benchmark} has shares of whole groups (task distribution), and training.loss is {loss!r}, which needs "
            f"{needs}. Set training.loss=distribution: each group's whole distribution, groups counting alike."
        )
    there = ", ".join(task for task, its in data.corpus.card["tasks"].items() if "train" in its) if data.corpus else ""
    raise BenchmarkError(
        f"{benchmark} has neither rows for {stage!r} nor survey answers; to train on it has {there or 'nothing'}. "
        f"Leave {stage} out of the pipeline, or build data that have one of the two (`cuma data build own` takes "
        "several --source)."
    )


def require_people(recipe: Recipe, data: Materials | Data) -> None:
    """Raises `BenchmarkError` where a fresh router is to tell people apart, and the data know fewer than two kinds."""
    own = _own_rows(recipe.pipeline[0], recipe, data)
    if own is not None and "profile_text" in own.column_names:
        known = set(own.unique("profile_text"))
    else:
        known = {group.profile.sentence for group in data.survey.groups if group.role in ROLES}
    if len(known - {"", None}) < 2:
        raise BenchmarkError(
            f"{recipe.data.benchmark} knows fewer than two kinds of people to train on, and the router is to tell "
            "people apart. Bring profiles, or train without: adapter.router_input=semantic data.profile_in=nowhere "
            "encoder.fields=false."
        )


def shares_to_train(stage: str, recipe: Recipe, data: Materials | Data) -> Shares | None:
    """The shares that a stage trains on in the place of people's answers; None: it does not.

    With training.loss=distribution any shares do. To count as people they must say how many they are of.
    """
    corpus, loss = data.corpus, recipe.training.loss
    if stage != "sft" or loss == "letter" or corpus is None or data.survey.questions:
        return None
    shares = corpus.training_shares()
    return shares if shares is not None and (loss == "distribution" or shares.counted) else None


def _own_rows(stage: str, recipe: Recipe, data: Materials | Data) -> Dataset | None:
    """A built folder's own rows for a stage, as they are; None: the stage is made from survey answers, or shares."""
    answers = data.survey.questions and stage == "sft" and recipe.training.loss != "letter"
    if data.corpus is None or answers or shares_to_train(stage, recipe, data) is not None:
        return None
    return data.corpus.training_rows(stage)


def _conversations(stage: str, recipe: Recipe, materials: Materials) -> Dataset | None:
    """A built folder's own rows for a stage, each told as the recipe says who asks; None: there are none."""
    rows = _own_rows(stage, recipe, materials)
    if rows is None:
        return None
    dropout = FieldDropout(recipe.training.profile_dropout, recipe.seed) if recipe.training.profile_dropout else None

    def conditioned(row: dict[str, Any]) -> dict[str, Any]:
        profile = Profile.parse(row[PROFILE])
        if dropout is not None:
            profile = dropout.of(profile)
        prompt = told_who_asks(row["prompt"], profile.sentence if profile_in_prompt(recipe) else "")
        return {"prompt": prompt, PROFILE: {name: getattr(profile, name) for name in FIELDS}}

    dropped = [name for name in rows.column_names if name not in CONVERSATION]
    return rows.map(conditioned, remove_columns=dropped, keep_in_memory=True)  # else a copy goes into the built folder


def _cells(recipe: Recipe, materials: Materials) -> Dataset:
    """The cells; with profile_dropout or item_dropout as many passes as training makes, each with what was left out."""
    told: dict[str, Any] = {"profile_in_prompt": profile_in_prompt(recipe), "profile_of": _profile_of(recipe)}
    weighted, shares = recipe.data.survey_weights, shares_to_train("sft", recipe, materials)
    if shares is not None:
        _warn_of_many_options(shares)

    def cells() -> Dataset:
        if shares is not None:
            return _limited(share_cells(shares, counts=recipe.training.loss == "counts", **told), recipe)
        return _limited(survey_cells(materials.survey, PART, ROLES, weighted=weighted, **told), recipe)

    return in_passes(cells, recipe)


def _warn_of_many_options(shares: Shares) -> None:
    left_out = len(shares.questions) - len(askable(shares.questions))
    if left_out and processes().is_main_process:
        logger.warning(
            "%d questions have more than %d options, one letter each: not trained on.", left_out, len(LETTERS)
        )


def _profile_of(recipe: Recipe) -> Callable[[Group], Profile]:
    dropout = recipe.training.profile_dropout
    return FieldDropout(dropout, recipe.seed) if dropout else full_profile


def _limited(rows: Dataset, recipe: Recipe) -> Dataset:
    """At most data.max_train rows, drawn at random."""
    limit = recipe.data.max_train
    return rows if limit is None or len(rows) <= limit else rows.shuffle(seed=recipe.seed).select(range(limit))


def sft_config(recipe: Recipe, folder: Path) -> SFTConfig:
    """TRL's configuration of the SFT stage; checkpoints go to `folder`."""
    order = "sequential" if recipe.training.item_dropout else "random"  # its passes are shuffled one by one
    common = _common(recipe, recipe.training, folder)
    return SFTConfig(**common, max_length=recipe.training.max_length, train_sampling_strategy=order)


def dpo_config(recipe: Recipe, folder: Path) -> DPOConfig:
    """TRL's configuration of the DPO stage."""
    return DPOConfig(**_common(recipe, recipe.dpo, folder), beta=recipe.dpo.beta, max_length=recipe.training.max_length)


def grpo_config(recipe: Recipe, folder: Path) -> GRPOConfig:
    """TRL's configuration of the GRPO stage."""
    section = recipe.grpo
    return GRPOConfig(
        **_common(recipe, section, folder),
        beta=section.beta,
        num_generations=section.num_generations,
        max_completion_length=section.max_completion_length,
        temperature=section.temperature,
    )


def _common(recipe: Recipe, stage: TrainingSection | DpoSection | GrpoSection, folder: Path) -> dict[str, Any]:
    """What a stage sets for itself, over what it has in common with the SFT stage."""
    training = recipe.training
    return {
        "output_dir": str(folder),
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        **_length(stage),
        "per_device_train_batch_size": stage.per_device_train_batch_size,
        "gradient_accumulation_steps": stage.gradient_accumulation_steps,
        "learning_rate": stage.learning_rate,
        "lr_scheduler_type": stage.lr_scheduler_type,
        "lr_scheduler_kwargs": _decay(stage),
        "warmup_steps": stage.warmup_steps,
        "weight_decay": training.weight_decay,
        "adam_beta2": training.adam_beta2,
        "max_grad_norm": training.max_grad_norm,
        "logging_steps": training.logging_steps,
        "save_steps": training.save_steps,
        "save_total_limit": 2,
        "gradient_checkpointing": training.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if training.gradient_checkpointing else None,
        "bf16": training.bf16,
        "use_cpu": on_cpu(),  # said outright, or bf16 is refused there
        "disable_tqdm": True,
        "report_to": list(training.report_to) or "none",
        "run_name": f"{training.run_name or recipe.name}/{folder.parent.name}",
        "dataloader_pin_memory": False,
        "ddp_find_unused_parameters": False,
    }


def _length(stage: TrainingSection | DpoSection | GrpoSection) -> dict[str, Any]:
    if stage.max_steps is None:
        return {"num_train_epochs": stage.num_train_epochs}
    return {"max_steps": stage.max_steps}


def _decay(stage: TrainingSection | DpoSection | GrpoSection) -> dict[str, Any]:
    if stage.lr_scheduler_type != "warmup_stable_decay":
        return {}
    assert stage.max_steps is not None  # the recipe was checked
    return {"num_decay_steps": int(stage.decay_ratio * max(0, stage.max_steps - stage.warmup_steps))}
