"""What a recipe holds: one experiment as validated, frozen values. `cuma.recipes.load` reads them from files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from cuma.options.mixture import Count, MixtureOptions, NonNegative, Positive, Share, frozen
from cuma.recipes import strict_yaml
from cuma.recipes.methods import known_method

# Strict: "8" is no number and 1 no boolean. A list is welcome where a tuple is kept.
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
NonNegativeInt = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]
Stage = Literal["sft", "dpo", "grpo"]
Schedule = Literal["constant", "constant_with_warmup", "linear", "cosine", "warmup_stable_decay"]
Steps = Annotated[tuple[NonNegativeInt, ...], Field(strict=False)]
if TYPE_CHECKING:
    _Mixture = MixtureOptions
else:
    _Mixture = frozen(MixtureOptions)


@dataclass(frozen=True, config=_STRICT)
class BackboneSection:
    """The frozen language model."""

    model_name_or_path: Text = "smollm2-135m"
    """A name that `cuma list backbones` shows, a local folder, or a Hub id."""
    revision: str | None = None
    """Commit, tag or branch on the Hub; null: the default one."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the base weights. What is trained is float32 anyway."""
    quantization: Literal["4bit", "8bit"] | None = None
    """Hold the frozen weights in fewer bits (bitsandbytes, the extra `quantized`); null: as they are."""
    chat_template: str | None = None
    """A file with a Jinja chat template in place of the model's own; the run keeps its text. null: the model's own, or
    plain paragraphs where it has none."""
    keep_frozen_layers: bool = False
    """Run the layers below the first adapter once per distinct prompt and keep the result in memory. Exact; pays when
    few prompts are asked of many people."""


@dataclass(frozen=True, config=_STRICT)
class DataSection:
    """Whose answers, and where the model learns who is asked."""

    benchmark: Text = "gss"
    """A name that `cuma list benchmarks` shows, or a folder that `cuma data build` wrote. Of a folder, sft takes the
    survey's answers, or groups' shares where only those are known, or the rows of the task sft where there is neither
    or training.loss is letter; dpo and grpo take the task's own rows where there are any."""
    split_seed: NonNegativeInt = 0
    """Seed of the split into seen, validation and test groups, and of people into parts."""
    language: str = ""
    """Of the questions, where a built folder has them in several languages, or own: everybody in the language that they
    were asked in; "": the first."""
    profile_in: Literal["router", "prompt", "both", "nowhere"] = "router"
    """Where the profile goes: to the router as an embedding, to the prompt as a persona, to both, or nowhere."""
    survey_weights: bool = False
    """In SFT people count with their survey weights, where the survey has some."""
    shuffle_profiles: bool = False
    """The control: one fixed permutation of the groups' embeddings, in training and evaluation."""
    option_orders: Literal["rotations", "natural", "fixed"] = "rotations"
    """Orders in which options are shown, in training and evaluation. "rotations": each option under each letter once.
    "natural": scales in their own order and reversed, two prompts whatever their length; names in rotations.
    "fixed": every question once, as it is written; a preference for a letter is then not averaged out."""
    exemplars: NonNegativeInt = 0
    """Few-shot, for the untouched model: answers of so many training people of the same group, as turns before the
    question. Groups that were held out have no training people and are not predicted."""
    max_train: Count | None = None
    """Train on at most so many rows, drawn with the seed; null: all."""


@dataclass(frozen=True, config=_STRICT)
class EncoderSection:
    """The frozen sentence encoder that turns a profile into e_d."""

    model_name_or_path: Text = "minilm"
    """"minilm" (from the quickstart extra), a local folder, or a Hub id."""
    revision: str | None = None
    """Commit, tag or branch on the Hub; null: the default one."""
    template: Annotated[str, Field(pattern=r"\{profile\}")] = "{profile}"
    """The sentence given to the encoder; {profile} stands for the profile's own sentence."""
    fields: bool = False
    """Beside the sentence's embedding the router reads the named fields, one-hot over the training groups' values."""


@dataclass(frozen=True, config=_STRICT)
class AdapterSection(_Mixture):  # type: ignore[misc]
    """What is trained: the options of a mixture (`cuma.options.mixture`), and these."""

    method: Annotated[Text, AfterValidator(known_method)] = "cuma"
    """The mixture, one dense LoRA or DoRA, a trained prefix of every layer's keys and values, all weights of the
    adapted layers, or nothing: the untouched model (`cuma.recipes.methods`)."""
    init_from: Text | None = None
    """Start from this adapter: the folder of a trained run, or of an adapter. The keys of this section, the backbone
    and the encoder must be as they are there; null: a fresh adapter."""
    target_modules: Names = ("q_proj", "v_proj")
    """Names of the linear layers to adapt."""
    last_layers: Count | None = 8
    """Adapt only that many layers, counted from the output; null: all, in full fine-tuning the embeddings too. A prefix
    goes to all."""
    num_virtual_tokens: Count = 20
    """Length of the prefix."""

    @property
    def reads_profile(self) -> bool:
        """True if the router sees who asks."""
        return self.method == "cuma" and self.router_input != "semantic"


@dataclass(frozen=True, config=_STRICT)
class _Steps:
    """What every stage of training says for itself, in the words of transformers' TrainingArguments."""

    max_steps: Count | None = 200
    """Optimiser steps; null: num_train_epochs says how long."""
    num_train_epochs: Positive | None = None
    """Passes over the rows, instead of max_steps."""
    per_device_train_batch_size: Count = 16
    """Rows in one step. In SFT a row is a cell (group, question, letter order); in the others one person's answer, in
    grpo one reply."""
    gradient_accumulation_steps: Count = 1
    """Batches whose gradients are added up before one update."""
    learning_rate: Positive = 1e-3
    """Peak learning rate of AdamW."""
    lr_scheduler_type: Literal["constant", "constant_with_warmup", "linear", "cosine", "warmup_stable_decay"] = (
        "constant"
    )
    """How the learning rate goes on after the warm-up."""
    warmup_steps: NonNegativeInt = 0
    """Steps of linear warm-up."""
    decay_ratio: Share = 0.2
    """Share of the steps after the warm-up in which warmup_stable_decay falls to 0, along a cosine, at the end."""


@dataclass(frozen=True, config=_STRICT)
class TrainingSection(_Steps):
    """The SFT stage, and what all stages have in common."""

    loss: Literal["distribution", "counts", "letter"] = "distribution"
    """What SFT learns: each group's whole answer distribution, groups counting alike; the same, with groups counting as
    their number of answers beside the others of the batch, for groups of very different sizes; or, as in the paper, one
    person's letter a row. Where only shares of whole groups are known, the first takes them as they are, and the second
    needs n, the number of people behind each."""
    profile_dropout: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability with which each profile field is left out of a training row, in every stage, so that half a profile,
    or none, gets a sensible answer too."""
    item_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the items that each pass over the rows leaves out whole, drawn anew for each, so that what all groups
    share cannot learn single items by heart. In sft, on survey answers or shares; needs max_steps."""
    weight_decay: NonNegative = 0.01
    """AdamW's decoupled weight decay."""
    adam_beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """How slowly AdamW's mean of squared gradients forgets. At 0.95 the large gradients of the first steps stop holding
    the later ones back within tens of steps, and a short run leaves its plateau sooner."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Each stage's adapter, which learning curves measure and the next stage starts from, is an exponential moving
    average of the trained weights that forgets like this; 0: the last weights. It warms up: after n steps the decay is
    at most n / (n + 9), so that a short run's average is not its beginning."""
    early_stopping_patience: Count | None = None
    """SFT stops after so many points of the learning curve (curve_steps) without a lower soft EMD, and its adapter is
    that of the best point, stopped or not; null: the last one."""
    max_grad_norm: NonNegative = 1.0
    """Gradients are clipped to this norm; 0: not at all."""
    logging_steps: Count = 10
    """Steps between two rows of the log."""
    save_steps: Count = 25
    """Steps between two checkpoints; an interrupted run continues from the newest."""
    max_length: Count = 1024
    """Tokens to which a conversation is cut, in sft and dpo. Survey questions are never cut."""
    curve_steps: Steps = ()
    """Steps of SFT after which the learning curve is measured."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    bf16: bool = False
    """Mixed precision with bfloat16."""
    report_to: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    """Trackers that get the log as well, by transformers' names: tensorboard, wandb, trackio, mlflow …"""
    run_name: Text | None = None
    """The run's name there; null: the recipe's name. The stage is added. Other people may read it."""


@dataclass(frozen=True, config=_STRICT)
class DpoSection(_Steps):
    """The preference stage: a person's own answer against another one, measured against the adapter after SFT."""

    learning_rate: Positive = 1e-4
    """Peak learning rate of AdamW; SFT has found the letters, this stage moves less."""
    beta: Positive = 0.1
    """How hard the policy is held to the reference; larger: closer."""


@dataclass(frozen=True, config=_STRICT)
class GrpoSection(_Steps):
    """The reinforcement stage: replies are sampled for each person and rewarded."""

    max_steps: Count | None = 50
    """Optimiser steps, each of which samples anew; null: num_train_epochs says how long."""
    learning_rate: Positive = 1e-4
    """Peak learning rate of AdamW."""
    beta: NonNegative = 0.04
    """Weight of the KL divergence from the adapter after SFT; 0: no reference."""
    num_generations: Annotated[int, Field(ge=2)] = 8
    """Replies for one person and question, compared with each other."""
    max_completion_length: Count = 4
    """Tokens a reply may have."""
    temperature: Positive = 1.0
    """Of the sampling."""
    reward: Literal["agreement", "judge"] = "agreement"
    """What a reply is worth: agreement with the person's own answer, or the judge's score against the row's
    `reference`, another reply, which surveys do not have."""


@dataclass(frozen=True, config=_STRICT)
class JudgeSection:
    """The language model that compares replies, where something asks for one. Its key is never part of a recipe."""

    model: str = ""
    """Its name at the server."""
    base_url: Text = "https://api.openai.com/v1"
    """An OpenAI-compatible server."""
    api_key_env: Text = "OPENAI_API_KEY"
    """The environment variable that holds the key."""
    send_profiles: bool = False
    """Whether people's profiles may be sent to that server; one on this machine always gets them."""
    max_requests: Count = 1000
    """Requests that a training may make."""
    temperature: NonNegative | None = 0.0
    """Of the judge; null: not sent, for models that refuse it."""
    max_completion_tokens: Count = 1024
    """The longest reply of the judge."""


@dataclass(frozen=True, config=_STRICT)
class EvaluationSection:
    """How answers are read from the model. No choice here changes a result beyond rounding."""

    batch_size: Count = 32
    """Prompts at once."""
    padding_side: Literal["left", "right"] = "left"
    """Side on which shorter prompts are padded."""


@dataclass(frozen=True, config=_STRICT)
class Recipe:
    """One experiment. Each section is a mapping in the YAML file; what a file leaves out has the default given here."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$")] = "recipe"
    """Names the run's folder; left out: the packaged name, or the file's."""
    label: str = ""
    """Name in tables; left out: the name."""
    description: str = ""
    """One plain sentence for readers of the report."""
    kind: Literal["trained", "untrained"] = "trained"
    """Whether there is anything to train."""
    seed: NonNegativeInt = 0
    """Seed of initialisation, batch order and dropout."""
    pipeline: Annotated[tuple[Stage, ...], Field(strict=False, min_length=1)] = ("sft",)
    """The stages of training, in order: sft first, then dpo, grpo or nothing. Each starts from the one before; with
    adapter.init_from the first starts from that adapter, and may be dpo or grpo."""
    backbone: BackboneSection = field(default_factory=BackboneSection)
    data: DataSection = field(default_factory=DataSection)
    encoder: EncoderSection = field(default_factory=EncoderSection)
    adapter: AdapterSection = field(default_factory=AdapterSection)
    training: TrainingSection = field(default_factory=TrainingSection)
    dpo: DpoSection = field(default_factory=DpoSection)
    grpo: GrpoSection = field(default_factory=GrpoSection)
    judge: JudgeSection = field(default_factory=JudgeSection)
    evaluation: EvaluationSection = field(default_factory=EvaluationSection)

    def to_yaml(self) -> str:
        """The whole recipe, defaults included; `load_recipe` gives an equal recipe back."""
        return strict_yaml.dump(_plain(self))

    @property
    def digest(self) -> str:
        """12 hexadecimal digits that change with whatever can change a result: not with name, label, description or
        trackers."""
        return hashlib.sha256(json.dumps(self._deciding(), sort_keys=True).encode()).hexdigest()[:12]

    def differences(self, other: Recipe) -> dict[str, tuple[Any, Any]]:
        """Key ("training.max_steps") → its value here and in another recipe, for those that make the digests differ."""
        own, others = _flat(self._deciding()), _flat(other._deciding())
        both = {key: (own.get(key), others.get(key)) for key in sorted(own.keys() | others.keys())}
        return {key: pair for key, pair in both.items() if pair[0] != pair[1]}

    def _deciding(self) -> dict[str, Any]:
        """Whatever can change a result."""
        values = {key: value for key, value in _plain(self).items() if key not in IDENTITY}
        values["training"] = {key: value for key, value in values["training"].items() if key not in TRACKING}
        for (section, key), before in ADDED.items():
            if values[section][key] == before:
                del values[section][key]
        return values


IDENTITY = ("name", "label", "description")
"""Keys that say which recipe this is. A recipe does not take them over from its `base`."""
TRACKING = ("report_to", "run_name")
"""Keys of the section training that say who else gets the log. A run that is continued may be told otherwise."""
ADDED: dict[tuple[str, str], Any] = {
    ("adapter", "init_from"): None,
    ("training", "adam_beta2"): 0.999,
    ("training", "item_dropout"): 0.0,
    ("training", "ema_decay"): 0.0,
    ("training", "early_stopping_patience"): None,
    ("backbone", "chat_template"): None,
    ("data", "language"): "",
    ("data", "option_orders"): "rotations",
}
"""Keys that recipes did not always have, with the value that was used before. At it they leave the digest as it was, so
that runs and evaluations made before are known again."""
SECTIONS: dict[str, type] = {
    "backbone": BackboneSection,
    "data": DataSection,
    "encoder": EncoderSection,
    "adapter": AdapterSection,
    "training": TrainingSection,
    "dpo": DpoSection,
    "grpo": GrpoSection,
    "judge": JudgeSection,
    "evaluation": EvaluationSection,
}


def _plain(recipe: Recipe) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(recipe)))  # tuples become lists, nothing else changes


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """{"training": {"seed": 0}, "kind": …} → {"training.seed": 0, "kind": …}"""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= {f"{key}.{name}": one for name, one in value.items()} if isinstance(value, dict) else {key: value}
    return flat
