"""Every private seam of PEFT that the tuner leans on.

Each test states a property of ours, shows that it holds, and that it breaks once the seam is patched away: so that a
new PEFT which changed the seam fails here, by name, and not somewhere in a training run.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft.mixed_model
import peft.peft_model
import peft.utils.hotswap
import pytest
import torch
from peft import PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict, inject_adapter_in_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import PeftType
from peft.utils.hotswap import hotswap_adapter
from safetensors.torch import load_file, save_file
from torch import nn

from cuma.errors import AdapterError, ProfileError, UnsupportedError
from cuma.tuner import layer, manifest
from cuma.tuner.adapters import AdapterConfigs, CumaAdapters
from cuma.tuner.config import CumaConfig
from cuma.tuner.layer import CumaLinear
from cuma.tuner.model import CumaModel
from cuma.tuner.register import REFUSALS
from helpers.tiny import HIDDEN, Opaque, adapted, config, gpt2, llama, logits, people, tokens

Patch = Callable[[pytest.MonkeyPatch], None]
Seam = Callable[[Callable[[], None], Patch, type[BaseException]], None]
NOT_RAISED = pytest.fail.Exception


@pytest.fixture
def seam(monkeypatch: pytest.MonkeyPatch) -> Seam:
    """seam(holds, patch, broken): `holds` passes, and raises `broken` under the patch."""

    def check(holds: Callable[[], None], patch: Patch, broken: type[BaseException]) -> None:
        holds()
        with monkeypatch.context() as patched:
            patch(patched)
            with pytest.raises(broken):
                holds()
        holds()

    return check


def without(owner: type, name: str, base: type) -> Patch:
    """PEFT's own method in place of our override."""
    return lambda patch: patch.setattr(owner, name, base.__dict__[name])


@contextlib.contextmanager
def nothing(*_: Any, **__: Any) -> Any:
    yield


# ---- registering ----------------------------------------------------------------------------------------------------


def test_the_enum_can_be_given_a_member(seam: Seam) -> None:
    def holds() -> None:
        assert PeftType("CUMA") is PeftType.CUMA is PeftType["CUMA"]
        assert "CUMA" in list(PeftType)
        assert PeftType.CUMA.value == "CUMA"  # transformers reads this
        assert isinstance(PeftType.CUMA, PeftType)

    seam(holds, lambda patch: patch.delitem(PeftType._value2member_map_, "CUMA"), ValueError)
    seam(holds, lambda patch: patch.delitem(PeftType._member_map_, "CUMA"), KeyError)
    names = [name for name in PeftType._member_names_ if name != "CUMA"]
    seam(holds, lambda patch: patch.setattr(PeftType, "_member_names_", names), AssertionError)


@pytest.mark.parametrize(
    "table", [PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING]
)
def test_registering_fills_pefts_tables(seam: Seam, table: dict[Any, Any], tmp_path: Path) -> None:
    adapted().save_pretrained(tmp_path)

    def holds() -> None:
        loaded = PeftModel.from_pretrained(llama(), tmp_path)
        assert isinstance(loaded.base_model, CumaModel)
        assert PEFT_TYPE_TO_PREFIX_MAPPING[PeftType.CUMA] == CumaModel.prefix

    seam(holds, lambda patch: patch.delitem(table, PeftType.CUMA), KeyError)


def test_the_config_class_is_found_by_its_type(seam: Seam, tmp_path: Path) -> None:
    config().save_pretrained(str(tmp_path))

    def holds() -> None:
        assert type(PeftConfig.from_pretrained(str(tmp_path))) is CumaConfig

    seam(holds, lambda patch: patch.setitem(PEFT_TYPE_TO_CONFIG_MAPPING, "CUMA", PeftConfig), AssertionError)


# ---- putting in -----------------------------------------------------------------------------------------------------


def test_the_pre_injection_hook_runs_before_anything_is_injected(seam: Seam) -> None:
    def holds() -> None:
        assert isinstance(adapted().base_model.peft_config, AdapterConfigs)

    seam(holds, without(CumaModel, "_pre_injection_hook", BaseTuner), AttributeError)


def test_layer_sizes_come_from_peft(seam: Seam) -> None:
    def holds() -> None:
        assert layer.linear_shape(nn.Linear(3, 5)) == (3, 5)
        assert layer.linear_shape(gpt2().transformer.h[0].attn.c_attn) == (HIDDEN, 3 * HIDDEN)

    seam(holds, lambda patch: patch.setattr(layer, "_get_in_out_features", lambda _: (None, None)), UnsupportedError)


@pytest.mark.filterwarnings("ignore:Unsupported layer type")
def test_replacing_a_module_looks_at_no_weight(seam: Seam) -> None:
    def holds() -> None:
        semantic = config(task_type=None, router_input="semantic", target_modules=["0"])
        get_peft_model(nn.Sequential(Opaque(4, 4)), semantic).unload()

    seam(holds, without(CumaAdapters, "_replace_module", BaseTuner), AttributeError)


def test_shared_state_keeps_out_injection_without_a_tuner(seam: Seam) -> None:
    def holds() -> None:
        with pytest.raises(ValueError, match="get_peft_model"):
            inject_adapter_in_model(config(), llama())

    seam(holds, lambda patch: patch.setattr(CumaAdapters, "uses_shared_state", False), NOT_RAISED)


def test_a_second_adapter_keeps_the_first_ones_trainability(seam: Seam) -> None:
    def holds() -> None:
        model = adapted(profile_projection_dim=3)
        frozen = config(profile_projection_dim=3)
        frozen.inference_mode = True
        model.add_adapter("other", frozen)
        assert model.base_model.cuma_profile["default"].projection.weight.requires_grad

    # PEFT restores only parameters below `model`; ours beside it are restored by inject_adapter.
    def patch(patched: pytest.MonkeyPatch) -> None:
        patched.setattr(CumaAdapters, "_projects", lambda *_, **__: False)
        patched.setattr(CumaAdapters, "_set_projection_grad", _freeze_all)

    seam(holds, patch, AssertionError)


def _freeze_all(tuner: CumaAdapters, *_: Any) -> None:
    tuner.cuma_profile.requires_grad_(False)


# ---- calling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["forward", "generate"])
def test_peft_opens_our_hooks_around_every_call(seam: Seam, call: str) -> None:
    model = adapted()
    inputs = {"input_ids": tokens(2), "profile_embeds": people(2), "adapter_names": ["default"] * 2}

    def holds() -> None:
        with pytest.raises(UnsupportedError, match="adapter_names"):
            getattr(model, call)(**inputs)

    seam(holds, lambda patch: patch.setattr(PeftModel, "_enable_peft_forward_hooks", nothing), NOT_RAISED)


def test_without_a_task_the_hooks_are_all_we_get(seam: Seam) -> None:
    semantic = config(task_type=None, router_input="semantic", target_modules=["0"])
    model = get_peft_model(nn.Sequential(nn.Linear(4, 4)), semantic)

    def holds() -> None:
        model.base_model._recorded = {}
        with model.record_routing():
            model(torch.randn(2, 4))
        assert model.routing()

    seam(holds, lambda patch: patch.setattr(PeftModel, "_enable_peft_forward_hooks", nothing), UnsupportedError)


def test_peft_strips_adapter_names_before_it_calls_us(seam: Seam) -> None:
    """Why our refusal sits in the hooks: in `forward` there is nothing left to see."""
    model = adapted()
    received: list[set[str]] = []
    model.base_model.register_forward_pre_hook(lambda _, __, given: received.append(set(given)), with_kwargs=True)

    def holds() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PeftModel, "_enable_peft_forward_hooks", nothing)
            model(input_ids=tokens(2), profile_embeds=people(2), adapter_names=["default"] * 2)
        assert "adapter_names" not in received[-1]

    seam(holds, lambda patch: patch.setattr(model, "special_peft_forward_args", set()), AssertionError)


def test_task_classes_hand_the_profile_on(seam: Seam) -> None:
    """PeftModelForCausalLM calls the tuner with every keyword; plain PeftModel goes past it, to the base model."""
    model = adapted()

    def holds() -> None:
        assert logits(model).shape[0] == 3

    seam(holds, lambda patch: patch.setattr(type(model), "forward", PeftModel.forward), ProfileError)


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_merging_asks_first(seam: Seam) -> None:
    def holds() -> None:
        model = adapted()
        for merge in (model.merge_and_unload, model.merge_adapter):
            with pytest.raises(UnsupportedError, match="cuma export"):
                merge()

    def patch(patched: pytest.MonkeyPatch) -> None:
        patched.setattr(CumaAdapters, "_check_merge_allowed", lambda _: None)
        patched.setattr(CumaLinear, "merge", lambda *_, **__: None)

    seam(holds, patch, NOT_RAISED)


@pytest.mark.parametrize(("module", "check", "reason"), REFUSALS, ids=["mixed", "hotswap"])
def test_pefts_compatibility_checks_speak_our_words(
    seam: Seam, module: Any, check: str, reason: str, tmp_path: Path
) -> None:
    adapted().save_pretrained(tmp_path)

    def act() -> None:
        if module is peft.mixed_model:
            get_peft_model(llama(), config(), mixed=True)
        else:
            hotswap_adapter(adapted(), str(tmp_path), "default")

    def holds() -> None:
        with pytest.raises(UnsupportedError) as raised:
            act()
        assert str(raised.value) == reason

    theirs = getattr(module, check).__wrapped__  # refuses too, but without a way out
    seam(holds, lambda patch: patch.setattr(module, check, theirs), ValueError)


def test_lora_is_checked_as_before() -> None:
    lora = peft.LoraConfig(target_modules=["q_proj"])
    peft.mixed_model._check_config_compatible(lora)
    peft.utils.hotswap.check_hotswap_configs_compatible(lora, lora)
    with pytest.raises(ValueError, match="use_rslora"):
        peft.utils.hotswap.check_hotswap_configs_compatible(lora, peft.LoraConfig(use_rslora=True))


def test_peft_asks_the_configs_before_it_activates(seam: Seam) -> None:
    model = adapted()

    def holds() -> None:
        with pytest.raises(UnsupportedError, match="several"):
            model.set_adapter(["default", "other"])

    plain = dict(model.peft_config)
    seam(holds, lambda patch: patch.setattr(model.base_model, "peft_config", plain), TypeError)


# ---- switching and deleting -----------------------------------------------------------------------------------------


def test_deleting_empties_our_dicts(seam: Seam) -> None:
    def holds() -> None:
        model = adapted()
        model.add_adapter("other", config())
        model.delete_adapter("other")
        follower = model.get_submodule("base_model.model.model.layers.0.self_attn.v_proj")
        assert set(follower.router_owner) == set(follower.needs_profile) == {"default"}

    seam(holds, lambda patch: patch.setattr(CumaLinear, "other_param_names", ()), AssertionError)


def test_disabling_passes_through_one_method(seam: Seam) -> None:
    def holds() -> None:
        model = adapted(profile_projection_dim=3)
        with model.disable_adapter():
            assert not any(parameter.requires_grad for parameter in model.parameters())
        assert model.base_model.cuma_profile["default"].projection.weight.requires_grad

    seam(holds, without(CumaAdapters, "_enable_adapter_layers", BaseTuner), AssertionError)


# ---- files ----------------------------------------------------------------------------------------------------------


def test_keys_on_disk_carry_no_adapter_name(seam: Seam, tmp_path: Path) -> None:
    model = adapted()

    def holds() -> None:
        model.save_pretrained(tmp_path)
        assert torch.equal(logits(PeftModel.from_pretrained(llama(), tmp_path, "other")), logits(model))

    seam(holds, without(CumaAdapters, "_remove_adapter_name_from_key", BaseTuner), AdapterError)


def test_loading_inverts_what_saving_did(seam: Seam) -> None:
    model = adapted()
    saved = get_peft_model_state_dict(model)

    def holds() -> None:
        remapped = CumaModel._remap_adapter_state_dict_for_load(model, model.peft_config["default"], "default", saved)
        assert {name for name in model.state_dict() if "cuma_" in name} == set(remapped)

    def identity(cls: type, model: Any, config: Any, adapter_name: str, state_dict: Any) -> Any:
        return state_dict

    patch = classmethod(identity)
    seam(holds, lambda patched: patched.setattr(BaseTuner, "_remap_adapter_state_dict_for_load", patch), AssertionError)


def test_peft_filters_by_adapter_name_anywhere_in_a_key(seam: Seam) -> None:
    """Which loses layers when an adapter is called like a module; our selection does not depend on it."""

    def holds() -> None:
        model = adapted()
        model.add_adapter("q_proj", config())
        assert any(".q_proj.cuma_experts" in name for name in get_peft_model_state_dict(model, adapter_name="default"))

    seam(holds, without(CumaAdapters, "_get_adapter_state_dict", BaseTuner), AssertionError)


def test_the_configuration_is_saved_after_the_weights(seam: Seam, tmp_path: Path) -> None:
    def holds() -> None:
        adapted().save_pretrained(tmp_path)
        listed = json.loads((tmp_path / manifest.MANIFEST_NAME).read_text())["sha256"]
        assert listed["adapter_model.safetensors"] == manifest.sha256(tmp_path / "adapter_model.safetensors")

    def patch(patched: pytest.MonkeyPatch) -> None:
        (tmp_path / "adapter_model.safetensors").unlink()
        patched.setattr(peft.peft_model, "safe_save_file", lambda *_, **__: None)  # still to come

    seam(holds, patch, KeyError)


def flip(folder: Path) -> None:
    content = bytearray((folder / "adapter_model.safetensors").read_bytes())
    content[-50] ^= 1
    (folder / "adapter_model.safetensors").write_bytes(content)


@pytest.mark.parametrize("way", ["from_pretrained", "load_adapter"])
def test_peft_shows_us_the_folder_when_it_reads_the_configuration(seam: Seam, tmp_path: Path, way: str) -> None:
    adapted().save_pretrained(tmp_path)
    flip(tmp_path)

    def act() -> None:
        if way == "load_adapter":
            adapted().load_adapter(str(tmp_path), "other")
        else:
            PeftModel.from_pretrained(llama(), tmp_path)

    def holds() -> None:
        with pytest.raises(AdapterError, match="SHA-256"):
            act()

    unseen = PeftConfig.__dict__.get("from_pretrained") or PeftConfig.__mro__[1].__dict__["from_pretrained"]
    seam(holds, lambda patch: patch.setattr(CumaConfig, "from_pretrained", unseen), NOT_RAISED)


@pytest.mark.parametrize("way", [PeftConfig.from_pretrained, PeftConfig._get_peft_type])
def test_peft_reads_every_configuration_file_in_one_place(
    seam: Seam, tmp_path: Path, way: Callable[[str], Any]
) -> None:
    adapted().save_pretrained(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{")

    def holds() -> None:
        with pytest.raises(AdapterError, match="SHA-256"):
            way(str(tmp_path))

    original = classmethod(PeftConfig.from_json_file.__wrapped__)
    seam(holds, lambda patch: patch.setattr(PeftConfig, "from_json_file", original), json.JSONDecodeError)


def test_weights_pass_through_load_state_dict_and_its_hooks(seam: Seam, tmp_path: Path) -> None:
    adapted().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    tensors["base_model.cuma_profile.mean"][0] = float("nan")
    save_file(tensors, tmp_path / "adapter_model.safetensors", metadata={"format": "pt"})
    manifest.write(tmp_path)

    def holds() -> None:
        with pytest.raises(AdapterError, match="NaN"):
            PeftModel.from_pretrained(llama(), tmp_path)

    ignore = lambda *_: None  # noqa: E731
    seam(holds, lambda patch: patch.setattr(nn.Module, "register_load_state_dict_pre_hook", ignore), NOT_RAISED)


def test_low_memory_loading_moves_layers_through_one_method(seam: Seam, tmp_path: Path) -> None:
    model = adapted(llama().bfloat16())
    model.save_pretrained(tmp_path)

    def holds() -> None:
        loaded = PeftModel.from_pretrained(llama().bfloat16(), tmp_path, low_cpu_mem_usage=True)
        for name, tensor in get_peft_model_state_dict(loaded).items():
            assert torch.equal(tensor, load_file(tmp_path / "adapter_model.safetensors")[name])

    seam(holds, without(CumaLinear, "_move_adapter_to_device_of_base_layer", BaseTunerLayer), AssertionError)


def test_a_bare_base_model_has_no_conditioning() -> None:
    """PeftModel.get_base_model is a way around the tuner: it is refused and not answered for nobody."""
    with pytest.raises(ProfileError, match="directly"):
        adapted().get_base_model()(input_ids=tokens(1))
