"""Adapter folders: what is written, and that nothing damaged is ever loaded or leaves a trace."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cuma.errors import AdapterError, UnsupportedError
from cuma.tuner import manifest
from cuma.tuner.layer import CumaLinear
from helpers import TESTS
from helpers.tiny import adapted, classifier, config, fresh_python, llama, logits, people, same, step, weights

WEIGHTS, CONFIG, MANIFEST = "adapter_model.safetensors", "adapter_config.json", manifest.MANIFEST_NAME


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    adapted(profile_projection_dim=3).save_pretrained(folder)
    return folder


def test_what_is_written(saved: Path) -> None:
    assert {path.name for path in saved.iterdir()} == {WEIGHTS, CONFIG, MANIFEST, "README.md"}
    keys = set(load_file(saved / WEIGHTS))
    layer = "base_model.model.model.layers.0.self_attn"
    assert f"{layer}.q_proj.cuma_experts.lora_A" in keys
    assert f"{layer}.q_proj.cuma_router.input.weight" in keys
    assert f"{layer}.v_proj.cuma_router.input.weight" not in keys, "a shared router is written once"
    assert {"base_model.cuma_profile.mean", "base_model.cuma_profile.scale"} <= keys
    assert not any("default" in key for key in keys)
    sums = json.loads((saved / MANIFEST).read_text())["sha256"]
    assert sums == {name: manifest.sha256(saved / name) for name in (WEIGHTS, CONFIG)}


def test_each_adapter_gets_its_own_manifest(tmp_path: Path) -> None:
    model = adapted()
    model.add_adapter("other", config())
    model.save_pretrained(tmp_path)
    assert (tmp_path / MANIFEST).is_file()
    assert (tmp_path / "other" / MANIFEST).is_file()
    manifest.verify(tmp_path)
    manifest.verify(tmp_path, "other")


def test_a_sound_adapter_loads_without_a_word(saved: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=FutureWarning)
        PeftModel.from_pretrained(llama(), saved)


# ---- damage ---------------------------------------------------------------------------------------------------------


def edit(change: Callable[[dict[str, Tensor]], None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return damage


def key(tensors: dict[str, Tensor], part: str) -> str:
    return next(name for name in sorted(tensors) if part in name)


def nan(tensors: dict[str, Tensor]) -> None:
    tensors[key(tensors, "lora_A")].flatten()[3] = float("nan")


def infinite_statistics(tensors: dict[str, Tensor]) -> None:
    tensors["base_model.cuma_profile.scale"].fill_(float("inf"))


def missing_router(tensors: dict[str, Tensor]) -> None:
    del tensors[key(tensors, "cuma_router.output.bias")]


def missing_statistics(tensors: dict[str, Tensor]) -> None:
    del tensors["base_model.cuma_profile.mean"]


def extra_cuma(tensors: dict[str, Tensor]) -> None:
    tensors["base_model.model.model.layers.7.self_attn.q_proj.cuma_experts.lora_A"] = torch.zeros(4, 4, 32)


def extra_foreign(tensors: dict[str, Tensor]) -> None:
    tensors["base_model.model.junk.weight"] = torch.zeros(2)


def base_weight(tensors: dict[str, Tensor]) -> None:
    """PEFT would load this over the frozen model."""
    tensors["base_model.model.model.norm.weight"] = torch.zeros(32)


def other_shape(tensors: dict[str, Tensor]) -> None:
    name = key(tensors, "lora_B")
    tensors[name] = tensors[name][:, :, :-1].contiguous()


def scalar_shape(tensors: dict[str, Tensor]) -> None:
    tensors["base_model.cuma_profile.scale"] = torch.ones(())


def truncated(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def emptied(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"")


def flipped_bit(folder: Path) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-100] ^= 4
    (folder / WEIGHTS).write_bytes(content)


def other_config(folder: Path) -> None:
    content = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(content | {"lora_alpha": 17}))


def other_rank(folder: Path) -> None:
    content = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(content | {"r": 5}))


def no_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "adapter_model.bin")
    (folder / WEIGHTS).unlink()


def another_method(folder: Path) -> None:
    save_file({"base_model.model.lora_A.weight": torch.zeros(2)}, folder / WEIGHTS)


def manifest_not_json(folder: Path) -> None:
    (folder / MANIFEST).write_text('{"sha256": {')


def manifest_not_a_dict(folder: Path) -> None:
    (folder / MANIFEST).write_text('{"sha256": ["a"]}')


def manifest_without_weights(folder: Path) -> None:
    sums = json.loads((folder / MANIFEST).read_text())
    del sums["sha256"][WEIGHTS]
    (folder / MANIFEST).write_text(json.dumps(sums))


def manifest_of_other_files(folder: Path) -> None:
    (folder / MANIFEST).write_text(json.dumps({"sha256": {"../../secret": "0"}}))


def truncated_config(folder: Path) -> None:
    content = (folder / CONFIG).read_text()
    (folder / CONFIG).write_text(content[: len(content) // 2])


def other_method_in_config(folder: Path) -> None:
    content = (folder / CONFIG).read_text()
    (folder / CONFIG).write_text(content.replace('"CUMA"', '"CUMB"'))


SEEN_BY_MANIFEST_ONLY = [flipped_bit, other_config, truncated_config, other_method_in_config]
SEEN_WITHOUT = [
    *map(edit, (nan, infinite_statistics, missing_router, missing_statistics, extra_cuma, extra_foreign)),
    *map(edit, (base_weight, other_shape, scalar_shape)),
    truncated,
    emptied,
    other_rank,
    pickled,
    another_method,
]
MANIFEST_ITSELF = [
    manifest_not_json,
    manifest_not_a_dict,
    manifest_without_weights,
    manifest_of_other_files,
    no_weights,
]
NAMES = [
    "nan",
    "inf",
    "missing_router",
    "missing_statistics",
    "extra_cuma",
    "extra_foreign",
    "base_weight",
    "other_shape",
]
NAMES += ["scalar_shape", "truncated", "emptied", "other_rank", "pickled", "another_method"]


def refused_everywhere(folder: Path) -> None:
    """Neither way of loading accepts the folder, and neither leaves a trace in the model."""
    base = llama()
    untouched, trainable = weights(base), [p.requires_grad for p in base.parameters()]
    with pytest.raises(AdapterError):
        PeftModel.from_pretrained(base, folder)
    assert same(weights(base), untouched)
    assert [p.requires_grad for p in base.parameters()] == trainable
    assert not any(isinstance(module, CumaLinear) for module in base.modules())
    model = adapted(target_modules=["q_proj"])
    before, answers, shown = weights(model), logits(model), str(model)
    with pytest.raises(AdapterError):
        model.load_adapter(str(folder), "other")
    assert same(weights(model), before)
    assert torch.equal(logits(model), answers)
    assert list(model.peft_config) == ["default"]
    assert str(model) == shown
    assert all(p.requires_grad for name, p in model.named_parameters() if "experts" in name)


@pytest.mark.parametrize("damage", [*SEEN_WITHOUT, *SEEN_BY_MANIFEST_ONLY, *MANIFEST_ITSELF])
def test_damage_is_seen(saved: Path, damage: Callable[[Path], None]) -> None:
    damage(saved)
    refused_everywhere(saved)


@pytest.mark.parametrize("rewritten", [True, False], ids=["manifest recomputed", "no manifest"])
@pytest.mark.parametrize("damage", SEEN_WITHOUT, ids=NAMES)
@pytest.mark.filterwarnings("ignore:.*loaded unverified")
def test_damage_is_seen_even_if_the_manifest_does_not_tell(
    saved: Path, damage: Callable[[Path], None], rewritten: bool
) -> None:
    damage(saved)
    (saved / MANIFEST).unlink()
    if rewritten:
        manifest.write(saved)
    refused_everywhere(saved)


def test_a_healthy_adapter_loads_after_a_damaged_one(saved: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(saved, bad)
    edit(missing_router)(bad)
    manifest.write(bad)
    model = adapted(target_modules=["q_proj"])
    with pytest.raises(AdapterError, match="lacks"):
        model.load_adapter(str(bad), "other")
    model.load_adapter(str(saved), "other")
    model.set_adapter("other")
    assert torch.equal(logits(model), logits(PeftModel.from_pretrained(llama(), saved)))


def test_no_manifest_is_exactly_one_warning(saved: Path) -> None:
    (saved / MANIFEST).unlink()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(llama(), saved)
    ours = [warning for warning in caught if MANIFEST in str(warning.message)]
    assert len(ours) == 1
    assert "unverified" in str(ours[0].message)
    assert torch.equal(logits(model), logits(adapted(profile_projection_dim=3)))


def test_a_folder_without_an_adapter_gets_pefts_message(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"adapter_config\.json"):
        PeftModel.from_pretrained(llama(), str(tmp_path))


def test_loading_over_a_trained_adapter_refuses_damage_and_keeps_it(saved: Path) -> None:
    """Trainers load a checkpoint into the adapter that is there; PEFT shows us no folder then, only the tensors."""
    model = adapted(profile_projection_dim=3)
    step(model)
    before = weights(model)
    edit(nan)(saved)
    with pytest.raises(AdapterError, match="NaN"):
        model.load_adapter(str(saved), "default")
    assert same(weights(model), before)


def test_an_adapter_made_from_a_loaded_config_is_not_taken_out_once_used(saved: Path) -> None:
    made = PeftConfig.from_pretrained(str(saved))
    made = type(made).from_pretrained(str(saved))
    made.inference_mode = False
    model = get_peft_model(llama(), made)
    model.fit_profiles(people(9))
    step(model)
    before = weights(model)
    with pytest.raises(AdapterError):
        set_peft_model_state_dict(model, {"base_model.cuma_profile.mean": torch.zeros(6)})
    assert same(weights(model), before)


def test_state_dicts_of_the_whole_model() -> None:
    model, other = adapted(), adapted(seed=8)
    state = weights(model)
    other.load_state_dict(state)
    assert same(weights(other), state)
    other = adapted(seed=8)
    other.base_model.load_state_dict({name.removeprefix("base_model."): value for name, value in state.items()})
    assert torch.equal(logits(other), logits(model))
    lacking = {name: value for name, value in state.items() if not name.endswith("cuma_profile.default.mean")}
    with pytest.raises(AdapterError, match="lacks"):
        other.load_state_dict(lacking, strict=False)
    base_only = {name: value for name, value in state.items() if "cuma_" not in name}
    other.load_state_dict(base_only, strict=False)


def test_a_classifiers_head_is_no_stranger(tmp_path: Path) -> None:
    model = adapted(classifier(), task_type="SEQ_CLS")
    with torch.no_grad():
        model.base_model.model.score.modules_to_save["default"].weight.add_(1)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(PeftModel.from_pretrained(classifier(), tmp_path)), logits(model))


def test_a_classifier_that_could_not_be_loaded_has_its_own_head_back(tmp_path: Path) -> None:
    adapted(classifier(), task_type="SEQ_CLS").save_pretrained(tmp_path)
    edit(nan)(tmp_path)
    manifest.write(tmp_path)
    base = classifier()
    head, untouched = base.score, weights(base)
    with pytest.raises(AdapterError, match="NaN"):
        PeftModel.from_pretrained(base, tmp_path)
    assert base.score is head
    assert same(weights(base), untouched)


def test_an_enlarged_vocabulary_travels_along(tmp_path: Path) -> None:
    base = llama()
    base.resize_token_embeddings(110, mean_resizing=False)
    model = adapted(base)
    model.save_pretrained(tmp_path, save_embedding_layers=True)
    other = llama(seed=3)
    other.resize_token_embeddings(110, mean_resizing=False)
    loaded = PeftModel.from_pretrained(other, tmp_path)
    assert torch.equal(loaded.get_input_embeddings().weight, base.get_input_embeddings().weight)


# ---- pickles --------------------------------------------------------------------------------------------------------


def test_pickles_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="safe_serialization"):
        adapted().save_pretrained(tmp_path, safe_serialization=False)
    assert not list(tmp_path.glob("*.bin"))


def test_a_refused_pickle_leaves_the_older_adapter_whole(saved: Path) -> None:
    other = adapted(seed=4, r=2)
    with pytest.raises(UnsupportedError, match="safe_serialization"):
        other.save_pretrained(saved, safe_serialization=False)
    assert torch.equal(logits(PeftModel.from_pretrained(llama(), saved)), logits(adapted(profile_projection_dim=3)))


# ---- another process ------------------------------------------------------------------------------------------------

ELSEWHERE = """
import sys, torch
sys.path.insert(0, sys.argv[2])
import cuma
from peft import PeftModel
from helpers.tiny import llama, logits
expected = torch.load(sys.argv[1] + "/expected.pt")
for name in ("default", "somebody", "q_proj"):
    assert torch.equal(logits(PeftModel.from_pretrained(llama(), sys.argv[1], adapter_name=name)), expected), name
"""


def test_trained_saved_and_loaded_elsewhere_bit_for_bit(tmp_path: Path) -> None:
    model = adapted(profile_projection_dim=3, init_weights=True, share_router=False)
    step(model)
    step(model)
    assert not torch.equal(logits(model), llama()(torch.zeros(3, 7, dtype=torch.long)).logits)
    model.save_pretrained(tmp_path)
    torch.save(logits(model), tmp_path / "expected.pt")
    fresh_python(ELSEWHERE, str(tmp_path), TESTS)


def test_any_module_can_be_saved_and_loaded(tmp_path: Path) -> None:
    def base() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))

    torch.manual_seed(1)
    model = get_peft_model(base(), config(task_type=None, router_input="semantic", target_modules=["0", "2"])).eval()
    model.save_pretrained(tmp_path)
    hidden = torch.randn(4, 8)
    assert torch.equal(PeftModel.from_pretrained(base(), tmp_path)(hidden), model(hidden))
