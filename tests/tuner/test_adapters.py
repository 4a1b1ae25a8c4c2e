"""Adding, switching, disabling, deleting and unloading: as with any of PEFT's own methods."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn

from cuma.errors import ProfileError
from cuma.tuner.layer import CumaLinear
from helpers.tiny import adapted, base_logits, classifier, config, llama, logits, people, same, step, weights


def two_adapters() -> PeftModel:
    """ "default" (joint, D=6, q and v) and "other" (profile only, D=4, all of attention)."""
    model = adapted()
    torch.manual_seed(5)
    model.add_adapter(
        "other",
        config(
            profile_dim=4,
            profile_projection_dim=3,
            router_input="profile",
            num_experts=3,
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        ),
    )
    model.fit_profiles(people(9, dim=4), adapter_name="other")
    return model


def trainable(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_each_adapter_has_its_own_routers_and_profiles() -> None:
    model = two_adapters()
    one = logits(model)
    model.set_adapter("other")
    two = logits(model, profile_embeds=people(3, dim=4))
    assert not torch.allclose(one, two)
    with pytest.raises(ProfileError, match="4"):
        logits(model)
    model.set_adapter("default")
    assert torch.equal(logits(model), one)


def test_only_the_active_adapter_is_trainable_and_never_its_statistics() -> None:
    model = two_adapters()
    assert all(".default." in name for name in trainable(model))
    model.set_adapter("other")
    assert all(".other." in name for name in trainable(model))
    assert any("projection" in name for name in trainable(model))
    assert not any(name.endswith((".mean", ".scale")) for name in trainable(model))
    model.set_adapter("other", inference_mode=True)
    assert not trainable(model)
    model.set_requires_grad("other")
    assert any("projection" in name for name in trainable(model))
    assert not any(name.endswith((".mean", ".scale")) for name in trainable(model))


def test_adding_one_for_inference_leaves_the_other_in_training() -> None:
    model = adapted(profile_projection_dim=3)
    before = trainable(model)
    frozen = config(profile_projection_dim=3)
    frozen.inference_mode = True
    model.add_adapter("other", frozen)
    assert trainable(model) == before


def test_disabling_gives_the_base_model_and_comes_back() -> None:
    model = two_adapters()
    before, grads = logits(model), trainable(model)
    with model.disable_adapter():
        assert torch.equal(base_logits(model), base_logits(llama()))
        assert torch.equal(logits(model), base_logits(llama())), "profile_embeds are harmless then"
        assert not trainable(model)
    assert torch.equal(logits(model), before)
    assert trainable(model) == grads


def test_deleting_the_inactive_adapter() -> None:
    model = two_adapters()
    before = logits(model)
    model.delete_adapter("other")
    assert torch.equal(logits(model), before)
    assert not any(".other." in name for name in model.state_dict())
    assert "other" not in model.base_model.cuma_profile
    for layer in model.modules():
        if isinstance(layer, CumaLinear):
            assert "other" not in layer.router_owner
            assert "other" not in layer.needs_profile


def test_deleting_the_active_adapter_activates_the_other() -> None:
    model = two_adapters()
    with pytest.warns(UserWarning, match="Setting active adapter to other"):
        model.delete_adapter("default")
    assert model.active_adapters == ["other"]
    assert any("projection" in name for name in trainable(model))
    assert all(".other." in name for name in trainable(model))
    step(model, profile_embeds=people(3, dim=4))


def test_deleting_the_last_adapter_leaves_the_base_model() -> None:
    model = adapted()
    model.delete_adapter("default")
    assert torch.equal(base_logits(model.base_model), base_logits(llama()))
    assert not trainable(model)


def test_unloading_restores_the_base_bit_for_bit() -> None:
    model = two_adapters()
    base = model.unload()
    assert same(weights(base), weights(llama()))
    assert not any(isinstance(module, CumaLinear) for module in base.modules())
    assert torch.equal(base_logits(base), base_logits(llama()))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*for a second time")
        again = get_peft_model(base, config())
    again.fit_profiles(people(9))
    logits(again)


def test_unloading_a_classifier_leaves_its_trained_head() -> None:
    """As with every method of PEFT: what was trained in full stays."""
    model = adapted(classifier(), task_type="SEQ_CLS")
    trained = model.base_model.model.score.modules_to_save["default"]
    base = model.unload()
    assert base.score is trained
    assert not any(isinstance(module, CumaLinear) for module in base.modules())


def test_modules_to_save_are_trained_saved_and_loaded(tmp_path: Path) -> None:
    model = adapted(modules_to_save=["embed_tokens"])
    step(model)
    before = logits(model)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(PeftModel.from_pretrained(llama(), tmp_path)), before)
    changed = model.base_model.model.model.embed_tokens
    assert not torch.equal(changed.modules_to_save["default"].weight, changed.original_module.weight)


@pytest.mark.parametrize("options", [{}, {"profile_projection_dim": 3}, {"share_router": False, "share_a": True}])
def test_trls_reference_copy(options: dict[str, object]) -> None:
    """DPO and GRPO add an adapter "ref" and copy every named parameter of "default" into it, statistics included."""
    model = adapted(**options)
    step(model)
    before = logits(model)
    model.add_adapter("ref", model.peft_config["default"])
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if ".default." in name:
            parameters[name.replace(".default.", ".ref.")].data.copy_(parameter.data)
    assert not any(".ref." in name for name in trainable(model))
    model.set_adapter("ref")
    assert torch.equal(logits(model), before)
    assert model.base_model.cuma_profile["ref"].fitted
    model.set_adapter("default")
    step(model)
    model.set_adapter("ref")
    assert torch.equal(logits(model), before)


def test_status() -> None:
    model = two_adapters()
    status = model.get_model_status()
    assert status.adapter_model_type == "CumaModel"
    assert status.peft_types == {"default": "CUMA", "other": "CUMA"}
    assert status.enabled is True
    assert status.active_adapters == ["default"]
    assert status.requires_grad == {"default": True, "other": False}
    assert status.trainable_params == sum(p.numel() for p in model.parameters() if p.requires_grad)
    by_name = {layer.name: layer for layer in model.get_layer_status()}
    assert by_name["model.model.layers.0.self_attn.v_proj"].available_adapters == ["default", "other"]
    assert by_name["model.model.layers.0.self_attn.k_proj"].available_adapters == ["other"]
    assert {layer.module_type for layer in by_name.values()} == {"cuma.CumaLinear"}
    with model.disable_adapter():
        assert model.get_model_status().enabled is False


def test_parameter_count(capsys: pytest.CaptureFixture[str]) -> None:
    model = adapted()
    model.print_trainable_parameters()
    experts = 4 * 4 * (32 + 32) + 4 * 4 * (32 + 16)  # E·R·(H + O), q and v
    router = (32 + 6) * 16 + 16 + 16 * 4 + 4
    assert f"trainable params: {2 * (experts + router):,}" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["q_proj", "layers", "ab", "0", "cuma", "weight"])
@pytest.mark.filterwarnings("ignore:Adapter name 'cuma'")
def test_adapters_named_like_modules_or_like_each_other(name: str, tmp_path: Path) -> None:
    """PEFT's filter by name, ".NAME." anywhere in a key, would lose whole layers of the other adapters."""
    torch.manual_seed(1)
    model = get_peft_model(llama(), config(), adapter_name="a")
    model.fit_profiles(people(9))
    model.add_adapter(name, config())
    model.fit_profiles(people(9, seed=4), adapter_name=name)
    expected = {}
    for adapter in ("a", name):
        model.set_adapter(adapter)
        expected[adapter] = logits(model.eval())
    model.save_pretrained(tmp_path)
    for adapter, answers in expected.items():
        for new_name in ("default", "q_proj", name):
            loaded = PeftModel.from_pretrained(llama(), tmp_path / adapter, adapter_name=new_name)
            assert torch.equal(logits(loaded), answers)
    model.delete_adapter(name)
    assert torch.equal(logits(model), expected["a"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_memory_loading_is_exact(tmp_path: Path, dtype: torch.dtype) -> None:
    """PEFT casts adapters that come from the meta device to the base's dtype, which would cut ours to bf16."""
    model = adapted(llama().to(dtype), profile_projection_dim=3)
    before = logits(model)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(llama().to(dtype), tmp_path, low_cpu_mem_usage=True)
    assert not any(p.is_meta for p in loaded.parameters())
    assert torch.equal(logits(loaded), before)
    beside = adapted(llama().to(dtype))
    beside.load_adapter(str(tmp_path), "second", low_cpu_mem_usage=True)
    beside.set_adapter("second")
    assert torch.equal(logits(beside), before)
    assert {p.dtype for name, p in beside.named_parameters() if "cuma_" in name} == {torch.float32}


def test_device_map(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path / "base")
    model = adapted()
    before = logits(model)
    model.save_pretrained(tmp_path / "adapter")
    base = type(llama()).from_pretrained(tmp_path / "base", device_map={"": "cpu"})
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapter", device_map={"": "cpu"})
    assert torch.equal(logits(loaded), before)


def test_loading_for_training_goes_on_where_it_was(tmp_path: Path) -> None:
    model = adapted(profile_projection_dim=3)
    model.save_pretrained(tmp_path)
    frozen = PeftModel.from_pretrained(llama(), tmp_path)
    assert not trainable(frozen)
    loaded = PeftModel.from_pretrained(llama(), tmp_path, is_trainable=True)
    assert trainable(loaded) == trainable(model)
    step(loaded)
    step(model)
    assert torch.equal(logits(loaded), logits(model))
