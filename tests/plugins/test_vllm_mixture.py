"""What of the vLLM plug-in needs no vLLM, against cuma's own layers: adapters, profiles, gates, the mixture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cuma import CumaConfig
from cuma.tuner import adapters, manifest
from cuma.tuner.experts import mixture_of_lora
from cuma.tuner.layer import CumaLinear
from cuma.tuner.router import released_gates, top_k_gates
from cuma_vllm import manifest as plugin_manifest
from cuma_vllm.adapter import SAME_INPUT, Adapter
from cuma_vllm.adapter_config import KNOWN
from cuma_vllm.errors import AdapterFileError, PersonError
from cuma_vllm.mixture import Mixture, Part, gates_of, standardised
from cuma_vllm.people import People
from cuma_vllm.person import KEY, nobody, person, salt_of, vector_of, written
from helpers.tiny import HIDDEN, PROFILE, adapted, config, llama, people, tokens

EVERY_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
VARIANTS: dict[str, dict[str, Any]] = {
    "joint": {},
    "person-only": {"router_input": "profile"},
    "person-only, linear, experts read the profile": {
        "router_input": "profile", "router_hidden_dim": None, "profile_in_experts": True,
    },
    "semantic": {"router_input": "semantic"},
    "semantic, linear": {"router_input": "semantic", "router_hidden_dim": None},
    "own routers": {"share_router": False},
    "shared A": {"share_a": True},
    "released gating": {"gating": "released"},
    "projection, linear": {"profile_projection_dim": 3, "router_hidden_dim": None},
    "experts read the profile": {"profile_in_experts": True},
    "experts read the projected profile, shared A": {
        "profile_in_experts": True, "share_a": True, "profile_projection_dim": 3,
    },
    "every linear": {"target_modules": EVERY_LINEAR},
    "every linear, own routers, soft": {"target_modules": EVERY_LINEAR, "share_router": False, "top_k": 4},
    "one expert": {"num_experts": 1, "top_k": 1, "profile_in_experts": True},
    "other scale": {"profile_scale": 3.0, "lora_alpha": 5},
    "last layer only": {"layers_to_transform": [1]},
}  # fmt: skip


def saved(folder: Path, **options: Any) -> tuple[Any, Adapter]:
    model = adapted(llama(), **options)
    model.save_pretrained(folder)
    return model, Adapter.read(folder)


def mixture_of(adapter: Adapter, layer: str) -> Mixture:
    experts = adapter.layers[layer]
    return Mixture(adapter.config, adapter.routers[experts.router], [Part(0, experts)])


class Seen:
    """What went into the base layer below one of cuma's layers, what came out, and what the mixture made of it."""

    def __init__(self, layer: CumaLinear) -> None:
        layer.base_layer.register_forward_hook(self.below)
        layer.register_forward_hook(self.above)

    def below(self, _: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.hidden, self.base = inputs[0].clone(), output.clone()

    def above(self, _: Any, __: Any, output: Tensor) -> None:
        self.whole = output.clone()


@pytest.mark.parametrize("name", VARIANTS)
def test_every_adapter_adds_what_cuma_adds(name: str, tmp_path: Path) -> None:
    """Layer by layer, for a batch with four people, one of them nobody in particular."""
    model, adapter = saved(tmp_path, **VARIANTS[name])
    layers = {key.removeprefix("base_model.model."): part for key, part in model.named_modules()
              if isinstance(part, CumaLinear)}  # fmt: skip
    assert layers.keys() == adapter.layers.keys()
    seen = {key: Seen(layer) for key, layer in layers.items()}
    who = torch.cat([people(3), torch.zeros(1, PROFILE)])
    needs = model.peft_config["default"].needs_profile
    with torch.no_grad():
        model(input_ids=tokens(4), **({"profile_embeds": who} if needs else {}))
    mixtures = {key: mixture_of(adapter, key) for key in layers}
    table = table_of(adapter, list(mixtures.values()), who) if needs else None
    for key, mixture in mixtures.items():
        found = seen[key]
        output = found.base.flatten(0, 1).clone()
        row = None if table is None else table.of(mixture, len(output))
        mixture(output, found.hidden.flatten(0, 1), row)
        assert not torch.allclose(found.whole, found.base, atol=1e-3), f"the mixture in {key} says nothing"
        torch.testing.assert_close(output.view_as(found.whole), found.whole, atol=2e-5, rtol=2e-5)


def table_of(adapter: Adapter, mixtures: list[Mixture], who: Tensor) -> People:
    """Everybody in a slot of another number than their place in the batch, seven tokens each."""
    table = People(adapter, mixtures, slots=8, tokens=64)
    slots = [5, 0, 3, 7]
    for slot, vector in zip(slots, who, strict=True):
        table.seat(slot, vector)
    table.place(torch.tensor(slots).repeat_interleave(7))
    return table


def test_layers_that_vllm_fuses(tmp_path: Path) -> None:
    """q, k and v as one: each part adds to its own columns what it adds alone."""
    _, adapter = saved(tmp_path, target_modules=["q_proj", "v_proj"], profile_in_experts=True)
    names = [f"model.layers.0.self_attn.{name}" for name in ("q_proj", "v_proj")]
    q, v = (adapter.layers[name] for name in names)
    assert q.router == v.router == names[0]
    fused = Mixture(adapter.config, adapter.routers[q.router], [Part(0, q), Part(HIDDEN + 16, v)])
    alone = [mixture_of(adapter, name) for name in names]
    hidden, who = torch.randn(28, HIDDEN), people(4)
    whole = torch.zeros(28, HIDDEN + 32)
    fused(whole, hidden, table_of(adapter, [fused], who).of(fused, 28))
    table = table_of(adapter, alone, who)
    for mixture, start, width in zip(alone, (0, HIDDEN + 16), (HIDDEN, 16), strict=True):
        part = mixture(torch.zeros(28, width), hidden, table.of(mixture, 28))
        torch.testing.assert_close(whole[:, start : start + width], part)
    assert not whole[:, HIDDEN : HIDDEN + 16].any(), "k was not adapted"


@pytest.mark.parametrize("shared", [False, True])
def test_mixture_equals_the_papers_equation(shared: bool, tmp_path: Path) -> None:
    _, adapter = saved(tmp_path, share_a=shared, router_input="semantic")
    layer = "model.layers.1.self_attn.v_proj"
    mixture, experts = mixture_of(adapter, layer), adapter.layers[layer]
    hidden = torch.randn(9, HIDDEN)
    expected = mixture_of_lora(
        hidden, mixture.gate(hidden, None), experts.lora_A, experts.lora_B, adapter.config.scaling
    )
    torch.testing.assert_close(mixture(torch.zeros(9, 16), hidden, None), expected)


@pytest.mark.parametrize("top_k", [1, 2, 5])
def test_gates_equal_ours(top_k: int) -> None:
    logits = torch.randn(50, 5).round(decimals=1)  # many ties
    assert torch.equal(gates_of(logits, top_k, "paper"), top_k_gates(logits, top_k))
    assert torch.equal(gates_of(logits, top_k, "released"), released_gates(logits, top_k))


def test_profiles_are_standardised_as_ours(tmp_path: Path) -> None:
    model, adapter = saved(tmp_path, profile_projection_dim=3)
    who = torch.cat([people(5), torch.zeros(1, PROFILE)])
    expected = model.base_model.cuma_profile["default"](who).detach()
    torch.testing.assert_close(torch.stack([standardised(adapter, one) for one in who]), expected)
    assert not standardised(adapter, who[-1]).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("contiguous", [True, False])
def test_compiled_as_plain(dtype: torch.dtype, contiguous: bool, tmp_path: Path) -> None:
    """Compilers have lost a factor of an in-place sum; here there is none to lose."""
    _, adapter = saved(tmp_path, profile_in_experts=True)
    layer = "model.layers.0.self_attn.q_proj"
    mixture = mixture_of(adapter, layer)
    table = table_of(adapter, [mixture], people(4))
    hidden = torch.randn(28, HIDDEN).to(dtype)
    bases = torch.randn(28, 2 * HIDDEN).to(dtype)

    def run(base: Tensor) -> Tensor:
        output = base[:, :HIDDEN] if not contiguous else base[:, :HIDDEN].contiguous()
        return mixture(output, hidden, table.of(mixture, 28))

    with torch.no_grad():
        plain = run(bases.clone())
        compiled = torch.compile(run, fullgraph=True, dynamic=True)(bases.clone())
    assert not torch.equal(plain, bases[:, :HIDDEN])
    torch.testing.assert_close(compiled, plain)


# ---- files ----------------------------------------------------------------------------------------------------------


def test_it_knows_what_cuma_writes() -> None:
    """A new option of the method is refused there until somebody has thought of it."""
    assert set(CumaConfig().to_dict()) == KNOWN
    assert SAME_INPUT == adapters.SAME_INPUT
    assert plugin_manifest.MANIFEST == manifest.MANIFEST_NAME


def broken_folders(folder: Path) -> dict[str, Path]:
    """An adapter, damaged in every way that should be noticed."""
    _, _ = saved(folder / "whole")
    made: dict[str, Path] = {}

    def copy(name: str, without: str = "") -> Path:
        made[name] = folder / name
        shutil.copytree(folder / "whole", made[name])
        if without:
            (made[name] / without).unlink()
        return made[name]

    weights, settings, sums = plugin_manifest.WEIGHTS, plugin_manifest.CONFIG, plugin_manifest.MANIFEST
    copy("lacks adapter_config.json", settings)
    copy("lacks weights", weights)
    flipped = copy("flipped bit") / weights
    raw = bytearray(flipped.read_bytes())
    raw[-1] ^= 1
    flipped.write_bytes(raw)
    (copy("damaged manifest") / sums).write_text("{")
    text = copy("changed configuration") / settings
    text.write_text(text.read_text().replace('"top_k": 2', '"top_k": 3'))
    (copy("truncated", sums) / weights).write_bytes(bytes(raw[:-100]))
    for name, change in CHANGES.items():
        target = copy(name, sums) / weights
        tensors = load_file(target)
        change(tensors)
        save_file(tensors, target)
    for name, fields in FIELDS.items():
        target = copy(name, sums) / settings
        target.write_text(json.dumps(json.loads(target.read_text()) | fields))
    return made


LAYER = "base_model.model.model.layers.0.self_attn.q_proj"
CHANGES: dict[str, Any] = {
    "missing tensor": lambda tensors: tensors.pop(f"{LAYER}.cuma_experts.lora_B"),
    "missing router": lambda tensors: [tensors.pop(key) for key in list(tensors) if f"{LAYER}.cuma_router" in key],
    "missing statistics": lambda tensors: tensors.pop("base_model.cuma_profile.mean"),
    "statistics never set": lambda tensors: tensors["base_model.cuma_profile.scale"].zero_(),
    "unknown tensor": lambda tensors: tensors.update({"base_model.model.lm_head.weight": torch.ones(2)}),
    "NaN": lambda tensors: tensors[f"{LAYER}.cuma_experts.lora_A"][0].fill_(float("nan")),
    "another shape": lambda tensors: tensors.update({f"{LAYER}.cuma_router.output.bias": torch.ones(5)}),
    "another method's": lambda tensors: [tensors.pop(key) for key in list(tensors)[:-1]],
}
FIELDS: dict[str, Any] = {
    "LoRA": {"peft_type": "LORA"},
    "unknown option": {"router_temperature": 2.0},
    "modules_to_save": {"modules_to_save": ["lm_head"]},
    "other task": {"task_type": "SEQ_CLS"},
    "top_k too large": {"top_k": 9},
    "no rank": {"r": None},
    "odd gating": {"gating": "sigmoid"},
    "rank of another adapter": {"r": 2},
}


@pytest.mark.filterwarnings("ignore:.*loaded unverified")
def test_nothing_damaged_incomplete_or_foreign_is_read(tmp_path: Path) -> None:
    for name, folder in broken_folders(tmp_path).items():
        with pytest.raises(AdapterFileError) as refusal:
            Adapter.read(folder)
        assert str(folder) in str(refusal.value), name


def test_without_a_manifest_it_warns_as_cuma_does(tmp_path: Path) -> None:
    model = adapted(llama())
    model.save_pretrained(tmp_path)
    (tmp_path / plugin_manifest.MANIFEST).unlink()
    with pytest.warns(UserWarning, match="unverified"):
        assert Adapter.read(tmp_path).config.num_experts == config().num_experts


def test_another_adapter_has_another_digest(tmp_path: Path) -> None:
    digests = {saved(tmp_path / str(top_k), top_k=top_k)[1].digest for top_k in (1, 2, 2)}
    assert len(digests) == 2


# ---- who asks -------------------------------------------------------------------------------------------------------


def test_a_person_travels_bit_for_bit() -> None:
    vector = torch.randn(PROFILE)
    assert torch.equal(vector_of(person(vector), PROFILE), vector)
    assert torch.equal(vector_of({KEY: vector.tolist()}, PROFILE), vector)
    assert not vector_of(nobody(PROFILE), PROFILE).any()


@pytest.mark.parametrize(
    "value",
    [None, "", "?", "AAA", "AAAA", written(torch.zeros(PROFILE + 1)), written(torch.full((PROFILE,), float("nan"))),
     7, {}, [], [1.0] * (PROFILE - 1), [1.0] * (PROFILE - 1) + ["x"], [True] * PROFILE, [1e300] * PROFILE,
     [float("inf")] * PROFILE, [[1.0]] * PROFILE, [10**400] * PROFILE],
)  # fmt: skip
def test_what_is_no_person_is_refused_without_repeating_it(value: Any) -> None:
    with pytest.raises(PersonError) as refusal:
        vector_of({KEY: value}, PROFILE)
    assert "1e300" not in str(refusal.value)


def test_salts() -> None:
    one, other = people(2)
    salts = {salt_of(one, None), salt_of(other, None), salt_of(one, "a"), salt_of(one, "b"), salt_of(one, "")}
    assert len(salts) == 5
    assert salt_of(one.clone(), "a") == salt_of(one, "a")
    assert salt_of(vector_of({KEY: [-0.0] * 2}, 2), None) == salt_of(torch.zeros(2), None)
