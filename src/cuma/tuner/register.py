"""The only file that touches PEFT's tables.

PEFT's `register_peft_method` refuses a name that its enum `PeftType` lacks, and a bare string in place of the enum
member breaks transformers (it reads `peft_type.value`). So the member is added first, then the supported call is made.
"""

from __future__ import annotations

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import PeftType, register_peft_method

NAME = "CUMA"


def add_peft_type() -> PeftType:
    """Add `PeftType.CUMA` (value "CUMA") to PEFT's enum, once, and return it."""
    if NAME not in PeftType.__members__:
        member = str.__new__(PeftType, NAME)
        member._name_ = NAME
        member._value_ = NAME
        PeftType._member_map_[NAME] = member
        PeftType._member_names_.append(NAME)
        PeftType._value2member_map_[NAME] = member
        type.__setattr__(PeftType, NAME, member)
    return PeftType(NAME)


def register() -> None:
    """Make `get_peft_model`, `PeftModel.from_pretrained` and the AutoPeft classes know the method. Idempotent."""
    if add_peft_type() in PEFT_TYPE_TO_CONFIG_MAPPING:
        return
    # Imported here: both classes need PeftType.CUMA to exist.
    from cuma.tuner.config import CumaConfig
    from cuma.tuner.model import CumaModel

    register_peft_method(name=NAME.lower(), config_cls=CumaConfig, model_cls=CumaModel)
