"""`import cuma` is light, and yet enough: PEFT knows the method whichever of the two comes first."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import pytest

from helpers.tiny import adapted, fresh_python, llama

HEAVY = ("torch", "peft", "transformers", "datasets", "trl", "accelerate", "sentence_transformers")
LIGHT = [
    "cuma",
    "cuma.cli",
    "cuma.errors",
    "cuma.judge",
    "cuma.metrics",
    "cuma.people.profiles",
    "cuma.reports.publish",
    "cuma.recipes.load",
    "cuma.reports",
    "cuma.runs.folder",
]


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_load_nothing_heavy(module: str) -> None:
    assert importlib.util.find_spec(module) is not None
    fresh_python(
        f"import sys, {module}\n"
        f"assert not [name for name in {HEAVY!r} if name in sys.modules]\n"
        "import cuma\n"
        "assert 'CumaConfig' in dir(cuma)\n"
    )


LOAD = """
import sys
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained(sys.argv[1] + "/base")
model = PeftModel.from_pretrained(base, sys.argv[1] + "/adapter")
assert type(model.base_model).__name__ == "CumaModel"
"""
ORDERS = {
    "cuma, then peft": "import cuma\nfrom peft import PeftModel\n" + LOAD,
    "peft, then cuma": "from peft import PeftModel\nimport cuma\n" + LOAD,
    "the auto class alone": """
import sys, cuma
from peft import AutoPeftModelForCausalLM
model = AutoPeftModelForCausalLM.from_pretrained(sys.argv[1] + "/adapter")
assert type(model.base_model).__name__ == "CumaModel"
import torch
written = model.generate(input_ids=torch.ones(1, 2).long(), profile_embeds=torch.ones(1, 6), max_new_tokens=1)
assert written.shape == (1, 3)
""",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model and an adapter that names it."""
    path = tmp_path_factory.mktemp("saved")
    base = llama()
    base.save_pretrained(path / "base")
    model = adapted(type(base).from_pretrained(path / "base"))
    model.save_pretrained(path / "adapter")
    return path


@pytest.mark.parametrize("order", ORDERS)
def test_loading_in_a_fresh_process(order: str, folder: Path) -> None:
    fresh_python(ORDERS[order], str(folder))


HOOK = """
import importlib, importlib.resources, importlib.util, sys
import cuma
from cuma import _peft_hook
for _ in range(3):
    _peft_hook.install()
assert sum(isinstance(finder, _peft_hook._PeftFinder) for finder in sys.meta_path) == 1
assert importlib.util.find_spec("peft").origin.endswith("__init__.py")  # transformers asks this without importing
assert "peft" not in sys.modules
import peft.utils  # a submodule first
import peft
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
assert PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType("CUMA")] is cuma.CumaConfig
assert type(peft.__loader__).__name__ == type(peft.__spec__.loader).__name__ == "SourceFileLoader"
assert importlib.resources.files(peft).joinpath("config.py").is_file()
assert importlib.resources.files("peft").joinpath("config.py").is_file()
assert importlib.util.find_spec("peft.tuners") is not None
before = PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType.CUMA]
importlib.reload(peft)
_peft_hook.install()
assert PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType.CUMA] is before
assert [member.name for member in peft.PeftType].count("CUMA") == 1
import pickle, copy
assert pickle.loads(pickle.dumps(peft.PeftType.CUMA)) is copy.deepcopy(peft.PeftType.CUMA) is peft.PeftType.CUMA
"""


def test_the_hook_leaves_an_ordinary_module_behind() -> None:
    fresh_python(HOOK)


EDITABLE = """
import importlib.util, sys
from importlib.machinery import PathFinder
where = PathFinder.find_spec("peft").origin

class Editable:
    "What pip writes for an editable install: a finder of its own, with the package on no path."
    def find_spec(self, name, path=None, target=None):
        if name == "peft":
            return importlib.util.spec_from_file_location(name, where, submodule_search_locations=[where[:-12]])

class OnPath(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "peft" else PathFinder.find_spec(name, path, target)

sys.meta_path = [OnPath if finder is PathFinder else finder for finder in sys.meta_path] + [Editable()]
import cuma, peft
assert "CUMA" in peft.PeftType.__members__
"""


def test_an_editable_peft_is_found_too() -> None:
    fresh_python(EDITABLE)


def test_a_kernel_that_nobody_asked_for_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    logger.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s", "no module")
    logger.warning("Something else")
    assert [record.message for record in caplog.records] == ["Something else"]
