"""Adapters of the authors' released code, rebuilt here from its description: loops, two softmaxes, their file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from typer.testing import CliRunner

from cuma.cli import app
from cuma.errors import AdapterError
from cuma.exchange.reference_import import import_reference
from cuma.models.backbones import load_backbone
from helpers.tiny import HIDDEN, llama, llama_config

E, R, K, WIDTH, PROFILE = 4, 3, 2, 16, 6
TARGETS = ("q_proj", "v_proj")


class Released(nn.Module):
    """One target layer as in the released code, expert after expert."""

    def __init__(self, base: nn.Linear, router: nn.Module, shared_a: bool) -> None:
        super().__init__()
        self.base, self.router = base, router
        self.lora_A = nn.ModuleList(nn.Linear(HIDDEN, R, bias=False) for _ in range(1 if shared_a else E))
        self.lora_B = nn.ModuleList(nn.Linear(R, base.out_features, bias=False) for _ in range(E))
        self.profile: Tensor

    def forward(self, hidden: Tensor) -> Tensor:
        person = self.profile[:, None].expand(-1, hidden.shape[1], -1)
        probabilities = self.router(torch.cat([hidden, person], dim=-1)).softmax(-1)
        top, chosen = probabilities.topk(K, dim=-1)
        gates = top.softmax(-1)
        out = self.base(hidden)
        for row in range(hidden.shape[0]):
            for token in range(hidden.shape[1]):
                for gate, expert in zip(gates[row, token], chosen[row, token], strict=True):
                    lora_a = self.lora_A[0 if len(self.lora_A) == 1 else int(expert)]
                    said = self.lora_B[int(expert)](lora_a(hidden[row, token]))
                    out[row, token] = out[row, token] + gate * said * (2 * R / R)
        return out


def save_tokenizer(folder: Path) -> None:
    load_backbone("smollm2-135m").tokenizer.save_pretrained(folder)


def released(folder: Path, routers: str = "target", shared_a: bool = False) -> tuple[nn.Module, Path, Path]:
    """A model with such layers; the folders of its base and of its adapter."""
    model = llama()
    base = folder / "base"
    model.save_pretrained(base)
    save_tokenizer(base)
    torch.manual_seed(5)
    tensors: dict[str, Tensor] = {}
    manager: dict[str, nn.Module] = {}
    first = "base_model.model.model.layers.0.self_attn.q_proj"
    for number, block in enumerate(model.model.layers):
        for target in TARGETS:
            name = {
                "target": f"routers.model_layers_{number}_self_attn_{target}",
                "block": f"routers.{number}",
                "one": "router",
            }[routers]
            if name not in manager:
                mlp = nn.Sequential(nn.Linear(HIDDEN + PROFILE, WIDTH), nn.ReLU(), nn.Linear(WIDTH, E))
                manager[name] = mlp
                tensors |= {f"{first}._router_manager.{name}.{k}": v for k, v in mlp.state_dict().items()}
            layer = Released(getattr(block.self_attn, target), manager[name], shared_a)
            setattr(block.self_attn, target, layer)
            where = f"base_model.model.model.layers.{number}.self_attn.{target}"
            if shared_a:
                tensors[f"{where}.lora_A.weight"] = layer.lora_A[0].weight.data
            else:
                tensors |= {f"{where}.lora_A.{i}.weight": a.weight.data for i, a in enumerate(layer.lora_A)}
            tensors |= {f"{where}.lora_B.{i}.weight": b.weight.data for i, b in enumerate(layer.lora_B)}
    source = folder / "released"
    source.mkdir()
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, source / "adapter_model.safetensors")
    settings = {"peft_type": "CuMA", "r": R, "lora_alpha": 2 * R, "target_modules": list(TARGETS), "top_k": K}
    (source / "adapter_config.json").write_text(json.dumps(settings))
    return model, base, source


@pytest.mark.parametrize("routers", ["target", "block", "one"])
@pytest.mark.parametrize("shared_a", [False, True])
def test_the_released_models_logits_to_1e_5(tmp_path: Path, routers: str, shared_a: bool) -> None:
    model, base, source = released(tmp_path, routers, shared_a)
    embeds = torch.randn(2, PROFILE)
    for module in model.modules():
        if isinstance(module, Released):
            module.profile = embeds
    ids = torch.randint(1, 99, (2, 6))
    with torch.no_grad():
        expected = model(ids).logits
        config = import_reference(source, base, tmp_path / "ours")
        ours = PeftModel.from_pretrained(llama(), tmp_path / "ours")
        assert (config.gating, config.top_k, config.share_a) == ("released", K, shared_a)
        assert (ours(ids, profile_embeds=embeds).logits - expected).abs().max() < 1e-5
        assert (llama()(ids).logits - expected).abs().max() > 1e-2


def test_the_command_says_what_it_read(tmp_path: Path) -> None:
    _, base, source = released(tmp_path)
    words = ["import-reference", str(source), "--base", str(base), "--output", str(tmp_path / "ours")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "4 experts of rank 3, 2 a token" in done.output
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 2
    assert "holds an adapter already" in " ".join(again.output.split())


CONFIGS = {"top_k": {"peft_type": "CuMA"}, "alpha": {"peft_type": "CuMA", "top_k": K}, "type": {"peft_type": "LORA"}}


def spoil(source: Path, change: str) -> None:
    config, weights = source / "adapter_config.json", source / "adapter_model.safetensors"
    tensors = load_file(weights)
    key = next(key for key in tensors if "layers.1" in key and "lora_B.2" in key)
    if change == "unknown":
        tensors["base_model.model.model.layers.0.self_attn.q_proj.surprise"] = torch.zeros(1)
    elif change == "gap":
        del tensors[key]
    elif change == "shape":
        for number in range(E):
            name = key.replace("lora_B.2", f"lora_B.{number}")
            tensors[name] = tensors[name][:-1].contiguous()
    elif change == "router":
        tensors = {name: tensor for name, tensor in tensors.items() if "_router_manager" not in name}
    elif change in CONFIGS:
        config.write_text(json.dumps(CONFIGS[change]))
    save_file(tensors, weights)
    if change == "damaged":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif change == "pickle":
        weights.rename(source / "adapter_model.bin")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("unknown", "cannot be placed"),
        ("gap", "gaps"),
        ("shape", "other shapes"),
        ("router", "no router"),
        ("top_k", "--top-k"),
        ("alpha", "lacks lora_alpha"),
        ("type", "peft_type"),
        ("damaged", "damaged"),
        ("pickle", "never read"),
    ],
)
def test_nothing_is_imported_in_part(tmp_path: Path, change: str, words: str) -> None:
    _, base, source = released(tmp_path)
    spoil(source, change)
    with pytest.raises(AdapterError, match=words):
        import_reference(source, base, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_another_base_model_is_refused(tmp_path: Path) -> None:
    _, _, source = released(tmp_path)
    wider = type(llama())(llama_config(hidden_size=64))
    wider.save_pretrained(tmp_path / "wider")
    save_tokenizer(tmp_path / "wider")
    with pytest.raises(AdapterError):
        import_reference(source, tmp_path / "wider", tmp_path / "ours")
