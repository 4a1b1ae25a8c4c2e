"""TRL's trainers for mixtures: SFT, DPO and GRPO, with TRL's own configurations and datasets plus who is asked."""

from __future__ import annotations

import logging
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from cuma.answering.letters import SurveyTokens, answer_logits, survey_loss
from cuma.errors import ConfigError, UnsupportedError
from cuma.training.batches import PROFILE, SURVEY_COLUMNS, SurveyCollator, profiles_of
from cuma.training.packed import TOKEN_PROFILES, PackedProfileCollator, check_packing, pack_people, without_truncation
from cuma.training.routed import MIXES_PEOPLE, Routed
from cuma.training.row_people import columns

REFERENCE = "ref"
"""TRL's name for the frozen copy of the adapter that it measures against."""
STEP_WEIGHT = "step_weight"
"""Key of a survey batch: what the batches of its step weigh on average (scalar)."""
LOGS_PEOPLE = {
    "log_completions": "it prints and keeps what each person was asked and answered, and sends it to trackers"
}


class CumaSFTTrainer(Routed, SFTTrainer):
    """TRL's SFTTrainer, with TRL's own configuration and datasets, plus a `profile` column.

    Works for any model: with a profile-routed mixture the column becomes profile_embeds; with anything else it is
    ignored. A tokenised survey dataset (`tokenise_cells`) is trained on its whole answer distribution. With
    `padding_free=True` or `packing=True` rows hold several people, and each token is routed by its own.

    Args:
        model: a PeftModel or a transformers model; with TRL's `peft_config=CumaConfig(…)`, the loaded base.
        args: TRL's SFTConfig.
        train_dataset: any form TRL knows with a column `profile` (object, sentence or null), streams included, or
            survey rows. Evaluation may bring people who are new.
        processing_class: the tokenizer; None: the one by the model's name.
        profile_encoder: encodes the profiles, each distinct one once.
        profile_table: the embeddings, if they exist already (instead of profile_encoder).

    Raises:
        ConfigError: neither an encoder nor a table is given but the router reads profiles; there is no tokenizer.
        ProfileError: the dataset has no profile column.
        UnsupportedError: an option that the mixture could not be right under (`cuma.training.routed`).
    """

    configuration = SFTConfig
    extra_columns = (PROFILE, TOKEN_PROFILES, *SURVEY_COLUMNS)
    refused = MIXES_PEOPLE

    def _check(self, model: Any, args: Any, processing_class: Any, dataset: Any, options: dict[str, Any]) -> None:
        if self._people is not None:
            check_packing(args)
        if dataset is not None and set(SURVEY_COLUMNS) <= set(columns(dataset)):
            if processing_class is None:
                raise ConfigError("survey rows need a tokenizer: pass processing_class.")
            tokens = SurveyTokens(processing_class, _padding_side(model, options.get("peft_config")))
            args.dataset_kwargs = {**(args.dataset_kwargs or {}), "skip_prepare_dataset": True}
            options["data_collator"] = SurveyCollator(tokens, self._people)

    def _add_people(self) -> None:
        if isinstance(self.data_collator, SurveyCollator):
            return
        if self._people is not None and self.padding_free:
            self.data_collator = PackedProfileCollator(self.data_collator, self._people)
        else:
            super()._add_people()

    def _prepare_dataset(
        self, dataset: Any, processing_class: Any, args: SFTConfig, packing: bool, *others: Any, **kwargs: Any
    ) -> Any:
        """TRL's tokenising and packing. Packed rows of a router that reads profiles also say whose each token is."""
        if self._people is None or not packing:
            return super()._prepare_dataset(dataset, processing_class, args, packing, *others, **kwargs)
        if args.max_length is None:
            raise ConfigError("packing=True needs max_length, the length of a packed row; got None.")
        whole = without_truncation(args)
        rows = super()._prepare_dataset(dataset, processing_class, whole, False, *others, **kwargs)
        return pack_people(rows, self._people, args)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[dict[str, Any]], Any]:
        """The batches of one step. With survey rows each also says what a batch of this step weighs on average, in all
        processes: the mean of their losses is then that of one batch of all rows."""
        batches, items = super().get_batch_samples(*args, **kwargs)
        if batches and "answer_weights" in batches[0]:
            weight = torch.stack([batch["answer_weights"].sum() for batch in batches]).mean().to(self.args.device)
            weight = self.accelerator.reduce(weight, "mean")
            batches = [{**batch, STEP_WEIGHT: weight} for batch in batches]
        return batches, items

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """TRL's loss, or for survey rows the loss on the people's answers; the balance loss is part of both."""
        if "answer_weights" not in inputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        conditioning = {"profile_embeds": inputs["profile_embeds"]} if "profile_embeds" in inputs else {}
        if self.aux_loss_enabled:
            conditioning["output_router_logits"] = True
        logits, outputs = answer_logits(model, inputs, **conditioning)
        loss = survey_loss(logits, inputs["answer_tokens"], inputs["answer_weights"], inputs.get(STEP_WEIGHT))
        mode = "train" if self.model.training else "eval"
        self._metrics[mode]["option_mass"].append(_option_mass(logits, inputs["answer_tokens"]))
        if self.aux_loss_enabled:
            self._metrics[mode]["aux_loss"].append(outputs.aux_loss.item())
            loss = loss + self.router_aux_loss_coef * outputs.aux_loss
        return (loss, outputs) if return_outputs else loss


class CumaDPOTrainer(Routed, DPOTrainer):
    """TRL's DPOTrainer, plus a `profile` column: chosen and rejected are both judged for the row's own person.

    The reference is a frozen copy of the adapter as it comes in (after SFT), inside the same model: never a second
    backbone, and never the model before SFT.

    Args:
        model: a PeftModel whose adapter is called "default" and trainable
            (`PeftModel.from_pretrained(base, folder, is_trainable=True)`); or as for `CumaSFTTrainer`.
        args: TRL's DPOConfig.
        train_dataset: TRL's preference data (prompt, chosen, rejected) with a column `profile`.
        processing_class, profile_encoder, profile_table: as for `CumaSFTTrainer`.

    Raises:
        ConfigError: as for `CumaSFTTrainer`; the adapter is frozen or has another name.
        ProfileError, UnsupportedError: as for `CumaSFTTrainer`.
    """

    configuration = DPOConfig
    repeats = 2

    def _check(self, model: Any, *others: Any) -> None:
        _check_reference(model)

    def _precompute_ref_logps(self, *args: Any, **kwargs: Any) -> Any:
        """TRL may compute the reference's answers while it is constructed, and keeps them by data and model alone."""
        self._add_people()
        before: Any = self._precompute_model_hash  # type: ignore[has-type]
        self._precompute_model_hash = before if self._people is None else f"{before} {self._people.fingerprint}"
        try:
            return super()._precompute_ref_logps(*args, **kwargs)
        finally:
            self._precompute_model_hash = before


class CumaGRPOTrainer(Routed, GRPOTrainer):
    """TRL's GRPOTrainer, plus a `profile` column: each person's answers are generated, scored and rewarded as theirs.

    Reward functions have TRL's signature and get `profile`, a list with one entry per completion, like every other
    column. With beta > 0 the reference is a frozen copy of the adapter as it comes in.

    Args:
        model: as for `CumaDPOTrainer`.
        reward_funcs: one or several reward functions.
        args: TRL's GRPOConfig.
        train_dataset: rows with `prompt`, `profile` and whatever the rewards read.
        processing_class, profile_encoder, profile_table: as for `CumaSFTTrainer`.

    Raises:
        ConfigError, ProfileError, UnsupportedError: as for `CumaDPOTrainer`; also for a rollout_func, which would
            generate without the people, and for log_completions, which would put prompts and replies into logs.
    """

    configuration = GRPOConfig
    never = LOGS_PEOPLE

    def __init__(self, model: Any, reward_funcs: Any, args: GRPOConfig | None = None, **options: Any) -> None:
        self._embeds: Tensor | None = None
        super().__init__(model, args, reward_funcs=reward_funcs, **options)
        _keep_rows_out_of_the_log()

    def _check(self, model: Any, args: Any, processing_class: Any, dataset: Any, options: dict[str, Any]) -> None:
        if args.beta:
            _check_reference(model)
        if self._people is not None and options.get("rollout_func") is not None:
            raise UnsupportedError(
                "rollout_func is not supported with a router that reads profiles: it would generate for nobody. Leave "
                "it out, and let the trainer generate."
            )

    def _add_people(self) -> None:
        """Rows come as they are: see `_generate_and_score_completions`."""

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if self._people is None:
            return super()._generate_and_score_completions(inputs)
        # TRL has repeated the rows already: one entry, and one person, per completion.
        self._embeds = self._people(profiles_of(inputs)).to(self.accelerator.device)
        return {**super()._generate_and_score_completions(inputs), "profile_embeds": self._embeds}

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[Any, Any, dict[str, Any]]:
        """TRL hands tensors in the last of the three to `generate`, as it does for images."""
        prompt_ids, images, fields = super()._tokenize_prompts(prompts)
        return prompt_ids, images, fields if self._embeds is None else {**fields, "profile_embeds": self._embeds}

    def _get_per_token_logps_and_entropies(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Every forward outside of generation goes through here, in chunks of rows."""
        routed = model if self._embeds is None else _WithPeople(model, self._embeds)
        return super()._get_per_token_logps_and_entropies(routed, *args, **kwargs)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        self._embeds = inputs.get("profile_embeds")  # shuffled and split by TRL together with their rows
        return super()._compute_loss(model, inputs)


class _WithPeople:
    """A model that is called with consecutive chunks of a batch, and gives each chunk its own people."""

    def __init__(self, model: Any, embeds: Tensor) -> None:
        self.model = model
        self.rest = embeds

    def __call__(self, input_ids: Tensor, **kwargs: Any) -> Any:
        embeds, self.rest = self.rest[: len(input_ids)], self.rest[len(input_ids) :]
        return self.model(input_ids=input_ids, profile_embeds=embeds, **kwargs)


def _padding_side(model: Any, peft_config: Any) -> str:
    """PEFT drops position_ids where there is a prefix; positions are then right only without padding before them.

    peft_config: what TRL is going to put on the model, if anything.
    """
    config = model.active_peft_config if isinstance(model, PeftModel) else peft_config
    return "right" if config is not None and config.is_prompt_learning else "left"


def _check_reference(model: Any) -> None:
    """TRL copies the adapter "default" to "ref"; a frozen or otherwise named one would fail late, or train nothing."""
    if not isinstance(model, PeftModel):
        return
    if REFERENCE in model.peft_config:
        raise ConfigError(
            f"the model has an adapter {REFERENCE!r} already, from an earlier trainer: it would be taken for the "
            f"reference. model.delete_adapter({REFERENCE!r}) first."
        )
    if list(model.active_adapters) != ["default"]:
        raise ConfigError(
            f"the active adapter is {', '.join(model.active_adapters)!r}: TRL copies the reference from 'default'. "
            "Load the adapter with PeftModel.from_pretrained(base, folder, is_trainable=True), without a name."
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(
            "the adapter is frozen: nothing would be trained. Load it with "
            "PeftModel.from_pretrained(base, folder, is_trainable=True)."
        )


class _NoRows(logging.Filter):
    """TRL warns of a completion without a reward by printing its whole row, profile included."""

    def filter(self, record: logging.LogRecord) -> bool:
        if "All reward functions returned None" in str(record.msg):
            record.msg, record.args = "All reward functions returned None for a completion: it is left out.", ()
        return True


def _keep_rows_out_of_the_log() -> None:
    log = logging.getLogger("trl.trainer.grpo_trainer")
    if not any(isinstance(known, _NoRows) for known in log.filters):
        log.addFilter(_NoRows())


def _option_mass(logits: Tensor, answer_tokens: Tensor) -> float:
    probability = logits.detach().softmax(-1).gather(-1, answer_tokens.clamp(min=0))
    return (probability * (answer_tokens >= 0)).sum(-1).mean().item()
