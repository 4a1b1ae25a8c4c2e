"""What a folder holds: who may be talked to, whose adapter it is, and whether that is whole."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file

from cuma.answering.answerer import Answerers, Source
from cuma.errors import AdapterError, RunError, UnsupportedError
from cuma.evaluation.subject import subject_of_model, subject_of_run
from cuma.runs.folder import Run, read_json, write_json
from helpers.folders import LORA, PREFIX, base_folder, lora_folder, mixture_folder, run_folder, tiny_base
from helpers.tiny import base_logits

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_folder(tmp_path_factory.mktemp("base"))


def test_a_runs_prompts_are_those_of_its_recipe(tmp_path: Path) -> None:
    for where in ("router", "both"):
        source = Source.read(run_folder(tmp_path / where, f"data.profile_in={where}"))
        assert (source.profile_in, source.adapter) == (where, tmp_path / where / "adapter")
    persona = Source.read(run_folder(tmp_path / "persona", recipe="persona"))
    assert (persona.profile_in, persona.adapter) == ("prompt", None)
    (tmp_path / "router" / "adapter").mkdir()
    assert Source.read(tmp_path / "router" / "adapter").folder == tmp_path / "router"


def test_folders_that_must_not_answer_say_why(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run\.json"):
        Source.read(tmp_path)
    with pytest.raises(RunError, match="not trained yet"):
        Source.read(run_folder(tmp_path / "new", status="training"))
    with pytest.raises(UnsupportedError, match="control"):
        Source.read(run_folder(tmp_path / "shuffled", recipe="shuffled"))
    few = run_folder(tmp_path / "few", "data.exemplars=3", recipe="persona")
    with pytest.raises(UnsupportedError, match="few-shot"):
        Source.read(few)
    with pytest.raises(UnsupportedError, match="prefix"):
        Source.read(run_folder(tmp_path / "prefix", *PREFIX))
    with pytest.raises(UnsupportedError, match="anchor"):
        Source.read(run_folder(tmp_path / "anchor", kind="anchor"))
    with pytest.raises(RunError, match="behind a server"):
        Source.read(run_folder(tmp_path / "served", recipe="persona", server={"url": "http://127.0.0.1"}))


def test_what_cannot_be_talked_to_is_still_measured(tmp_path: Path) -> None:
    for name, words in (("shuffled", ()), ("cuma", PREFIX), ("persona", ("data.exemplars=3",))):
        run = Run.open(run_folder(tmp_path / name, *words, recipe=name))
        source = subject_of_run(run.path).source
        assert source.barred
        assert source.adapter == (None if name == "persona" else run.adapter)


@pytest.mark.parametrize("kind", [PrefixTuningConfig, PromptTuningConfig])
def test_whatever_peft_puts_in_front_of_every_call_is_refused(kind: type, base: Path, tmp_path: Path) -> None:
    model = tiny_base()
    model.name_or_path = str(base)
    get_peft_model(model, kind(num_virtual_tokens=2, task_type="CAUSAL_LM")).save_pretrained(tmp_path / "prefix")
    with pytest.raises(UnsupportedError, match="trained prefix"):
        Source.read(tmp_path / "prefix")
    measured = subject_of_model(str(tmp_path / "prefix"), "gss", "persona", tmp_path / "measured")
    assert measured.recipe.evaluation.padding_side == "right"
    with pytest.raises(UnsupportedError, match="trained prefix"):
        Source.read(measured.run.path)


def test_the_run_of_somebody_elses_adapter_answers_with_that_adapter(base: Path, tmp_path: Path) -> None:
    adapter = lora_folder(base, tmp_path / "lora")
    run = subject_of_model(str(adapter), "gss", "persona", tmp_path / "measured").run
    source = Source.read(run.path)
    assert (source.adapter, source.profile_in) == (adapter, "prompt")
    answerer = Answerers(device="cpu").load(source)
    alone = Answerers(device="cpu").load(adapter)
    assert torch.equal(base_logits(answerer.model), base_logits(alone.model))
    assert not torch.allclose(base_logits(answerer.model), base_logits(tiny_base()))


def test_what_peft_or_trl_wrote_needs_no_manifest_but_must_be_whole(base: Path, tmp_path: Path) -> None:
    adapter = lora_folder(base, tmp_path / "lora")
    assert Answerers(device="cpu").load(adapter).profile_in_prompt
    run = run_folder(tmp_path / "run", *LORA, f"backbone.model_name_or_path={base}")
    lora_folder(base, run / "adapter")
    with pytest.warns(UserWarning, match=r"no cuma_manifest.json: its files are loaded unverified"):
        inside = Answerers(device="cpu").load(run)
    assert torch.equal(base_logits(inside.model), base_logits(Answerers(device="cpu").load(adapter).model))
    tensors = load_file(adapter / WEIGHTS)
    tensors.popitem()
    for folder in (adapter, run / "adapter"):
        save_file(tensors, folder / WEIGHTS)
    with warnings.catch_warnings(action="ignore"):
        for folder in (adapter, run):
            with pytest.raises(AdapterError, match="missing"):
                Answerers(device="cpu").load(folder)


def test_a_runs_own_mixture_must_have_its_sums(base: Path, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", f"backbone.model_name_or_path={base}")
    mixture_folder(base, run / "adapter")
    loader = Answerers(device="cpu")
    loader.load(run)
    (run / "adapter" / "cuma_manifest.json").unlink()
    for again in (loader, Answerers(device="cpu")):  # beside another mixture, and as the first
        with warnings.catch_warnings(action="ignore"), pytest.raises(AdapterError, match="no cuma_manifest"):
            again.load(run)


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_text("{"), lambda file: file.write_text("{}")])
def test_a_configuration_that_cannot_be_read_is_said_so(damage: Any, base: Path, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", *LORA, f"backbone.model_name_or_path={base}")
    damage(lora_folder(base, run / "adapter") / "adapter_config.json")
    with pytest.raises(AdapterError, match=r"adapter_config.json is not there, or no configuration"):
        Answerers(device="cpu").load(run)


def test_an_adapter_that_names_no_base_says_where_to_write_it(base: Path, tmp_path: Path) -> None:
    folder = lora_folder(base, tmp_path / "lora")
    config = read_json(folder / "adapter_config.json")
    write_json(folder / "adapter_config.json", {**config, "base_model_name_or_path": None})
    with pytest.raises(AdapterError, match="names no base model"):
        Source.read(folder)
