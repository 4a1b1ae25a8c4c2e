"""Which folders can answer people, how they are asked, and what is shared between them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from cuma import Profile
from cuma.answering.adapter_files import save_adapter
from cuma.answering.answerer import Answerers, Source
from cuma.errors import AdapterError, ConfigError, ProfileError, RunError, UnsupportedError
from cuma.recipes.load import load_recipe
from cuma.runs.folder import Run
from helpers.served import encoder, tokenizer
from helpers.tiny import adapted, llama

THAI = Profile(age=55, country="Thailand")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model as a folder, with a tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    llama(vocab_size=len(tokenizer()), pad_token_id=None, bos_token_id=None).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def mixture(base: Path, folder: Path, seed: int = 1, **options: Any) -> Path:
    model = llama(vocab_size=len(tokenizer()), pad_token_id=None, bos_token_id=None)
    spec = {"profile_encoder": dict(encoder().spec), "profile_dim": encoder().dim, "profile_scale": 20.0} | options
    made = adapted(model, seed=seed, **spec)
    made.peft_config["default"].base_model_name_or_path = str(base)
    save_adapter(made, folder)
    return folder


def run(folder: Path, *overrides: str, status: str = "trained", recipe: str = "cuma") -> Path:
    made = load_recipe(f"quickstart/gss/{recipe}", overrides)
    Run.create(folder, made.to_yaml(), {"status": status, "kind": made.kind})
    return folder


def logits(answerer: Any, person: Profile) -> torch.Tensor:
    answerer.activate()
    with torch.no_grad():
        return answerer.model(input_ids=torch.arange(5, 15)[None], profile_embeds=answerer.embeds([person])).logits


def test_an_adapter_alone_answers_and_two_share_their_base(base: Path, tmp_path: Path) -> None:
    loader = Answerers(device="cpu")
    one, two = (loader.load(mixture(base, tmp_path / name, seed)) for seed, name in enumerate(("one", "two")))
    assert (one.name, two.name) == ("one", "two")
    assert one.model is two.model
    assert one.encoder is two.encoder
    first, second = logits(one, THAI), logits(two, THAI)
    assert not torch.allclose(first, second)
    torch.testing.assert_close(logits(one, THAI), first, rtol=0, atol=0)
    alone = Answerers(device="cpu").load(tmp_path / "two")
    torch.testing.assert_close(logits(alone, THAI), second, rtol=0, atol=1e-6)
    assert not [name for name, weight in two.model.named_parameters() if weight.requires_grad]


def test_what_peft_or_trl_wrote_needs_no_manifest_but_must_be_whole(base: Path, tmp_path: Path) -> None:
    def stock() -> Any:
        model = llama(vocab_size=len(tokenizer()), pad_token_id=None, bos_token_id=None)
        model.name_or_path = str(base)
        return get_peft_model(model, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))

    stock().save_pretrained(tmp_path / "lora")
    assert Answerers(device="cpu").load(tmp_path / "lora").profile_in_prompt
    weights = tmp_path / "lora" / "adapter_model.safetensors"
    tensors = load_file(weights)
    tensors.popitem()
    save_file(tensors, weights)
    with pytest.raises(AdapterError, match="missing"):
        Answerers(device="cpu").load(tmp_path / "lora")


def test_another_method_gets_the_person_in_its_prompt(base: Path, tmp_path: Path) -> None:
    model = llama(vocab_size=len(tokenizer()), pad_token_id=None, bos_token_id=None)
    model.name_or_path = str(base)
    save_adapter(get_peft_model(model, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM")), tmp_path / "lora")
    answerer = Answerers(device="cpu").load(tmp_path / "lora")
    asked = [{"role": "user", "content": "Hello?"}]
    assert answerer.embeds([THAI]) is None
    assert answerer.messages(asked, THAI)[0]["content"] == "You are a 55-year-old person living in Thailand."
    assert answerer.messages(asked, Profile()) == asked
    own = [{"role": "system", "content": "Be brief."}, *asked]
    assert answerer.messages(own, THAI) == own, "as in training, a system message of one's own stays alone"


def test_a_runs_prompts_are_those_of_its_recipe(tmp_path: Path) -> None:
    for where in ("router", "both"):
        source = Source.read(run(tmp_path / where, f"data.profile_in={where}"))
        assert (source.profile_in, source.adapter) == (where, tmp_path / where / "adapter")
    persona = Source.read(run(tmp_path / "persona", recipe="persona"))
    assert (persona.profile_in, persona.adapter) == ("prompt", None)
    (tmp_path / "router" / "adapter").mkdir()
    assert Source.read(tmp_path / "router" / "adapter").folder == tmp_path / "router"


def test_folders_that_must_not_answer_say_why(base: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run\.json"):
        Source.read(tmp_path)
    with pytest.raises(RunError, match="not trained yet"):
        Source.read(run(tmp_path / "new", status="training"))
    with pytest.raises(UnsupportedError, match="control"):
        Source.read(run(tmp_path / "shuffled", recipe="shuffled"))
    few = run(tmp_path / "few", "data.exemplars=3", recipe="persona")
    with pytest.raises(UnsupportedError, match="few-shot"):
        Source.read(few)
    prefix = ("adapter.method=prefix", "data.profile_in=prompt", "backbone.keep_frozen_layers=false")
    with pytest.raises(UnsupportedError, match="prefix"):
        Source.read(run(tmp_path / "prefix", *prefix, "evaluation.padding_side=right"))


def test_an_encoder_that_is_not_named_can_be_given(base: Path, tmp_path: Path) -> None:
    folder = mixture(base, tmp_path / "silent", profile_encoder=None)
    with pytest.raises(ConfigError, match="does not say which encoder"):
        Answerers(device="cpu").load(folder)
    assert Answerers(device="cpu", encoder="minilm").load(folder).encoder is not None
    narrow = mixture(base, tmp_path / "narrow", profile_dim=6, profile_encoder=None)
    with pytest.raises(AdapterError, match="reads 6 numbers"):
        Answerers(device="cpu", encoder="minilm").load(narrow)


def test_a_damaged_adapter_is_not_served(base: Path, tmp_path: Path) -> None:
    folder = mixture(base, tmp_path / "one")
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(AdapterError, match="SHA-256"):
        Answerers(device="cpu").load(folder)
    loader = Answerers(device="cpu")
    loader.load(mixture(base, tmp_path / "two"))
    with pytest.raises(AdapterError, match="SHA-256"):
        loader.load(folder)


def test_a_model_that_reads_no_profile_refuses_one(tmp_path: Path, base: Path) -> None:
    answerer = Answerers(device="cpu").load(mixture(base, tmp_path / "one"))
    answerer.source = replace(answerer.source, profile_in="nowhere")
    with pytest.raises(ProfileError, match="reads no profile"):
        answerer.embeds([THAI])
