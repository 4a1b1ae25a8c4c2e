"""The files for `accelerate launch` say what accelerate and its plug-ins understand."""

from __future__ import annotations

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import FullyShardedDataParallelPlugin

from helpers import ROOT

FOLDER = ROOT / "docs" / "accelerate"


@pytest.mark.parametrize("name", ["ddp", "zero2", "fsdp2"])
def test_accelerate_reads_it(name: str) -> None:
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))  # refuses keys that it does not know
    assert config.distributed_type == {"ddp": "MULTI_GPU", "zero2": "DEEPSPEED", "fsdp2": "FSDP"}[name]
    assert config.num_processes == 2


def test_zero_2_is_what_it_says() -> None:
    assert load_config_from_file(str(FOLDER / "zero2.yaml")).deepspeed_config["zero_stage"] == 2


def test_fsdp_takes_its_options() -> None:
    options = load_config_from_file(str(FOLDER / "fsdp2.yaml")).fsdp_config
    own_prefix = {key: key if key == "fsdp_version" else key.removeprefix("fsdp_") for key in options}
    plugin = FullyShardedDataParallelPlugin(**{own_prefix[key]: value for key, value in options.items()})
    assert plugin.fsdp_version == 2
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"
