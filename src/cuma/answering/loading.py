"""The one loader: what a folder holds to answer with, and how it is put on the frozen model.

Chat, server, export, evaluation and lm-evaluation-harness all come through here.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft import PeftConfig
from peft.utils import CONFIG_NAME

from cuma.answering.adapter_files import load_adapter
from cuma.data.surveys.survey import OptionOrders
from cuma.errors import AdapterError, CumaError, RunError, UnsupportedError
from cuma.models.backbones import BACKBONES, Backbone, load_backbone
from cuma.models.chat_template import is_plain
from cuma.models.hub import locate
from cuma.recipes.load import load_recipe
from cuma.recipes.schema import BackboneSection, Recipe
from cuma.runs.folder import Run
from cuma.tuner.config import CumaConfig
from cuma.tuner.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from torch import device as Device

logger = logging.getLogger(__name__)

CONTROL = (
    "{} is a control: its router learnt profiles that were dealt out to the wrong groups on purpose, so that everybody "
    "would get somebody else's answers. Take the run without data.shuffle_profiles."
)
FEW_SHOT = "{} is few-shot: its prompts need survey answers, which only `cuma evaluate` has. Take another run."
PREFIX = (
    "{} is a trained prefix: PEFT puts it in front of every call, so what was computed for a conversation cannot be "
    "kept and gone on with. `cuma evaluate` measures it; to talk to a model take another method."
)


@dataclass(frozen=True)
class Source:
    """What a folder holds, before anything heavy is loaded."""

    folder: Path
    """As it was given."""
    adapter: Path | None
    """The adapter's folder; None: the untouched model."""
    backbone: BackboneSection
    profile_in: str
    """Where the profile goes, as `data.profile_in` of a recipe says it."""
    padding_side: str = "left"
    """As in the run's evaluation."""
    option_orders: OptionOrders = "rotations"
    """In which orders it is asked survey questions, as `data.option_orders` of a recipe says it."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """What the run recorded of its people: `population` of run.json; empty for an adapter alone."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """run.json; empty for an adapter alone."""
    barred: str = ""
    """Why it may be measured and must not answer people; "": it may."""

    @classmethod
    def read(cls, folder: str | Path) -> Source:
        """Look at a run's folder, its adapter, or an adapter's folder that belongs to no run, to let it answer people.

        Raises:
            RunError: nothing of the kind is there, or the run is not trained.
            UnsupportedError: a run that must not, or cannot, answer people.
        """
        path = Path(folder)
        if path.name == "adapter" and (path.parent / "run.json").is_file():
            path = path.parent
        alone = (path / CONFIG_NAME).is_file() and not (path / "run.json").is_file()
        source = cls.of_adapter(path) if alone else cls.of_run(Run.open(path))
        if source.barred:
            raise UnsupportedError(source.barred)
        return source

    @classmethod
    def find(cls, target: str, revision: str | None = None) -> Source:
        """As `read`; or an adapter on the Hub, or a plain model by name, folder or Hub id, which is told who asks in
        the prompt.

        Raises:
            BackboneError: there is no such model here, and none can be fetched. And as `read`.
        """
        path = Path(target)
        if (path / "run.json").is_file() or (path.parent / "run.json").is_file():
            return cls.read(path)
        kept = path if target in BACKBONES else locate(target, revision, BACKBONES).folder
        if (kept / CONFIG_NAME).is_file():
            return cls.read(kept)
        return cls(path, None, BackboneSection(model_name_or_path=target, revision=revision), "prompt")

    @classmethod
    def of_adapter(cls, path: Path) -> Source:
        """An adapter that belongs to no run. It does not say how its prompts looked: if its router reads no profile,
        the profile is taken to have stood in the prompt.

        Raises:
            AdapterError: it does not say which model it belongs to.
        """
        config = _config_of(path)
        name = config.base_model_name_or_path
        if not name:
            raise AdapterError(f"{path / CONFIG_NAME} names no base model. Write it there: base_model_name_or_path.")
        return cls(
            path,
            path,
            BackboneSection(model_name_or_path=name, revision=config.revision),
            "router" if _reads_profile(config) else "prompt",
            "right" if config.is_prompt_learning else "left",  # PEFT ignores position_ids where there is a prefix
            barred=PREFIX.format(path) if config.is_prompt_learning else "",
        )

    @classmethod
    def of_run(cls, run: Run, recipe: Recipe | None = None) -> Source:
        """A run with a model on this machine.

        recipe: how it is asked; None: as its own says.

        Raises:
            RunError: it is not trained, or its model stands behind a server.
            UnsupportedError: it has no language model.
        """
        recipe = recipe or load_recipe(run.path / "recipe.yaml")
        if run.info["kind"] == "anchor":
            raise UnsupportedError(f"{run.path} is an anchor, a predictor without a language model: it cannot answer.")
        if "server" in run.info:
            raise RunError(
                f"{run.path} measures a model behind a server: its weights are not here. To let `cuma evaluate` go on "
                "with its answers, give --endpoint, --model and --benchmark again."
            )
        elsewhere = run.info.get("adapter")
        adapter = run.adapter if recipe.adapter.method != "none" else None
        if elsewhere is not None:
            adapter = Path(elsewhere["folder"])
        if adapter is not None:
            require_trained(run)
        return cls(
            run.path,
            adapter,
            recipe.backbone,
            recipe.data.profile_in,
            recipe.evaluation.padding_side,
            recipe.data.option_orders,
            run.info.get("population", {}),
            run.info,
            _barred(run.path, recipe) or (cls.of_adapter(Path(elsewhere["folder"])).barred if elsewhere else ""),
        )

    @cached_property
    def config(self) -> PeftConfig | None:
        """The adapter's; None for the untouched model."""
        return None if self.adapter is None else _config_of(self.adapter)

    @property
    def needs_sums(self) -> bool:
        """Whether the adapter must have a manifest: a run's own mixture. PEFT and TRL write none."""
        return isinstance(self.config, CumaConfig) and self.adapter == self.folder / "adapter"


def require_trained(run: Run) -> None:
    """Raises RunError."""
    if run.info["status"] not in ("trained", "evaluated"):
        raise RunError(f"{run.path} is not trained yet (status {run.info['status']!r}). Run `cuma train` on it first.")


def _config_of(folder: Path) -> PeftConfig:
    try:
        config = PeftConfig.from_pretrained(str(folder))
    except CumaError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:  # whatever PEFT says of a file that it cannot read
        raise _unread(folder, type(error).__name__) from error
    if config.peft_type is None:
        raise _unread(folder, "no peft_type")
    return config


def _unread(folder: Path, why: str) -> AdapterError:
    file = folder / CONFIG_NAME
    return AdapterError(f"{file} is not there, or no configuration that PEFT reads ({why}). Copy the adapter again.")


def _reads_profile(config: PeftConfig) -> bool:
    return isinstance(config, CumaConfig) and config.needs_profile


def _barred(path: Path, recipe: Recipe) -> str:
    if recipe.data.shuffle_profiles:
        return CONTROL.format(path)
    if recipe.data.exemplars:
        return FEW_SHOT.format(path)
    return PREFIX.format(path) if recipe.adapter.method == "prefix" else ""


def frozen_backbone(section: BackboneSection, device: str | Device | None = None, **instead: Any) -> Backbone:
    """The frozen model that a recipe names.

    device: where to; None: the CPU.
    instead: `revision`, `dtype` or `quantization` in place of what the section says.

    Raises as `load_backbone`.
    """
    names = ("revision", "dtype", "quantization", "chat_template")
    reading = {name: getattr(section, name) for name in names} | instead
    placed = None if device is None or str(device) == "cpu" else device
    backbone = load_backbone(section.model_name_or_path, device_map=placed, **reading)
    backbone.model.requires_grad_(False)
    if is_plain(backbone.tokenizer):
        logger.warning(
            "%s has no chat template: conversations are put in plain paragraphs. If it was trained on another form, "
            "bring that: backbone.chat_template=FILE.",
            backbone.name,
        )
    return backbone


def put_on(base: Any, source: Source) -> Any:
    """The base with the source's adapter, or the base itself where there is none, in eval mode.

    Raises:
        AdapterError: the adapter is damaged, or does not fit.
    """
    if source.adapter is None:
        return base.eval()
    in_a_run = bool(source.info) and not isinstance(source.config, CumaConfig)  # PEFT warns of a mixture itself
    if in_a_run and not (source.adapter / MANIFEST_NAME).is_file():
        warnings.warn(f"{source.adapter} has no {MANIFEST_NAME}: its files are loaded unverified.", stacklevel=2)
    return load_adapter(base, source.adapter, needs_sums=source.needs_sums).eval()
