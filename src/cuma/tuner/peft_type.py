"""The member `PeftType.CUMA`.

PEFT's `register_peft_method` refuses a name that its enum `PeftType` lacks, and a bare string in place of the enum
member breaks transformers (it reads `peft_type.value`). A file of its own, because both the configuration and its
registration need the member.
"""

from __future__ import annotations

from peft.utils import PeftType

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
