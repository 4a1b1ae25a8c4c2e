"""Which folders can answer people, how they are asked, and what is shared between them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cuma import Profile
from cuma.answering.answerer import Answerers
from cuma.errors import AdapterError, ConfigError, ProfileError
from helpers.folders import base_folder, lora_folder, mixture_folder

THAI = Profile(age=55, country="Thailand")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model as a folder, with a tokenizer."""
    return base_folder(tmp_path_factory.mktemp("base"))


def logits(answerer: Any, person: Profile) -> torch.Tensor:
    answerer.activate()
    with torch.no_grad():
        return answerer.model(input_ids=torch.arange(5, 15)[None], profile_embeds=answerer.embeds([person])).logits


def test_an_adapter_alone_answers_and_two_share_their_base(base: Path, tmp_path: Path) -> None:
    loader = Answerers(device="cpu")
    one, two = (loader.load(mixture_folder(base, tmp_path / name, seed)) for seed, name in enumerate(("one", "two")))
    assert (one.name, two.name) == ("one", "two")
    assert one.model is two.model
    assert one.encoder is two.encoder
    first, second = logits(one, THAI), logits(two, THAI)
    assert not torch.allclose(first, second)
    torch.testing.assert_close(logits(one, THAI), first, rtol=0, atol=0)
    alone = Answerers(device="cpu").load(tmp_path / "two")
    torch.testing.assert_close(logits(alone, THAI), second, rtol=0, atol=1e-6)
    assert not [name for name, weight in two.model.named_parameters() if weight.requires_grad]


def test_another_method_gets_the_person_in_its_prompt(base: Path, tmp_path: Path) -> None:
    answerer = Answerers(device="cpu").load(lora_folder(base, tmp_path / "lora"))
    asked = [{"role": "user", "content": "Hello?"}]
    assert answerer.embeds([THAI]) is None
    assert answerer.messages(asked, THAI)[0]["content"] == "You are a 55-year-old person living in Thailand."
    assert answerer.messages(asked, Profile()) == asked
    own = [{"role": "system", "content": "Be brief."}, *asked]
    assert answerer.messages(own, THAI) == own, "as in training, a system message of one's own stays alone"


def test_an_encoder_that_is_not_named_can_be_given(base: Path, tmp_path: Path) -> None:
    folder = mixture_folder(base, tmp_path / "silent", profile_encoder=None)
    with pytest.raises(ConfigError, match="does not say which encoder"):
        Answerers(device="cpu").load(folder)
    assert Answerers(device="cpu", encoder="minilm").load(folder).encoder is not None
    narrow = mixture_folder(base, tmp_path / "narrow", profile_dim=6, profile_encoder=None)
    with pytest.raises(AdapterError, match="reads 6 numbers"):
        Answerers(device="cpu", encoder="minilm").load(narrow)


def test_a_damaged_adapter_is_not_served(base: Path, tmp_path: Path) -> None:
    folder = mixture_folder(base, tmp_path / "one")
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(AdapterError, match="SHA-256"):
        Answerers(device="cpu").load(folder)
    loader = Answerers(device="cpu")
    loader.load(mixture_folder(base, tmp_path / "two"))
    with pytest.raises(AdapterError, match="SHA-256"):
        loader.load(folder)


def test_a_model_that_reads_no_profile_refuses_one(tmp_path: Path, base: Path) -> None:
    answerer = Answerers(device="cpu").load(mixture_folder(base, tmp_path / "one"))
    answerer.source = replace(answerer.source, profile_in="nowhere")
    with pytest.raises(ProfileError, match="reads no profile"):
        answerer.embeds([THAI])
