"""The only file that touches PEFT's functions and registries.

The enum member comes first (`cuma.tuner.peft_type`), then PEFT's own `register_peft_method` is called. Two things that
PEFT refuses for every method but LoRA get our words, which name the way out, and a damaged configuration is named as
such before PEFT stumbles over it.
"""

from __future__ import annotations

from functools import wraps
from types import ModuleType
from typing import Any

import peft.mixed_model
import peft.utils.hotswap
from peft.config import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import register_peft_method

from cuma.errors import UnsupportedError
from cuma.tuner import manifest
from cuma.tuner.peft_type import NAME, add_peft_type

REFUSALS = (
    (
        peft.mixed_model,
        "_check_config_compatible",
        "a mixture of adapters cannot be part of a PeftMixedModel: each mixture has a router of its own. Leave out "
        "mixed=True; to serve several kinds of people at once, train one mixture on all of them.",
    ),
    (
        peft.utils.hotswap,
        "check_hotswap_configs_compatible",
        "hotswap is not supported: it knows LoRA's tensors only. Load the other adapter beside this one, "
        "model.load_adapter(folder, 'other'), then model.set_adapter('other').",
    ),
)
"""Module of PEFT, name of its check, and what we say when a CumaConfig is checked."""


def register() -> None:
    """Make `get_peft_model`, `PeftModel.from_pretrained` and the AutoPeft classes know the method. Idempotent."""
    if add_peft_type() in PEFT_TYPE_TO_CONFIG_MAPPING:
        return
    # Imported here: both classes need PeftType.CUMA to exist.
    from cuma.tuner.config import CumaConfig
    from cuma.tuner.model import CumaModel

    register_peft_method(name=NAME.lower(), config_cls=CumaConfig, model_cls=CumaModel)
    for module, check, reason in REFUSALS:
        _refuse(module, check, reason)
    _verify_before_reading()


def _refuse(module: ModuleType, check: str, reason: str) -> None:
    """Let PEFT's compatibility check raise our error for our configurations; for all others it is as it was."""
    original = getattr(module, check)

    @wraps(original)
    def checked(*configs: Any) -> Any:
        if any(config.peft_type == NAME for config in configs):
            raise UnsupportedError(reason)
        return original(*configs)

    setattr(module, check, checked)


def _verify_before_reading() -> None:
    """Let PEFT's reader of configuration files see first whether ours is whole. Other methods' have no manifest."""
    original = PeftConfig.from_json_file.__func__

    @wraps(original)
    def from_json_file(cls: type[PeftConfig], path_json_file: str, **kwargs: Any) -> Any:
        manifest.verify_config(path_json_file)
        return original(cls, path_json_file, **kwargs)

    PeftConfig.from_json_file = classmethod(from_json_file)
