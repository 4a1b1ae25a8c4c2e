"""Every place inside vLLM that the plug-in stands on, and does not own: each test fails where it is patched away."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.engines import ask, engine, expected
from vllm import LLM, ModelRegistry, SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.exceptions import VLLMValidationError
from vllm.model_executor.layers.linear import LinearBase
from vllm.model_executor.models.config import MODELS_CONFIG_MAP
from vllm.sampling_params import SamplingParams as Params
from vllm.v1.engine.input_processor import InputProcessor
from vllm.v1.request import Request
from vllm.v1.worker.gpu import model_runner
from vllm.v1.worker.gpu.input_batch import InputBatch, InputBuffers
from vllm.v1.worker.gpu.model_states import resolve_model_state_cls
from vllm.v1.worker.gpu_model_runner import GPUModelRunner
from vllm.version import __version__

from cuma_vllm import runner_v1, seams
from cuma_vllm.adapter import Adapter
from cuma_vllm.architectures import ARCHITECTURES, with_mixture
from cuma_vllm.errors import AdapterFileError, EngineOptionError
from cuma_vllm.layers import TABLE
from cuma_vllm.mixture import Mixture, Part
from cuma_vllm.models import WithMixture
from cuma_vllm.options import ADAPTER, REFUSED, engine_options
from cuma_vllm.people import People
from cuma_vllm.person import person, vector_of
from cuma_vllm.plugin import MINOR, register
from cuma_vllm.runner_v2 import PeopleState, model_state_class

CASE = "llama-joint"


def test_the_version_that_is_known() -> None:
    assert __version__.startswith(f"{MINOR}.")


def test_the_entry_point_registers_every_architecture() -> None:
    register()
    register()
    for architecture in ARCHITECTURES:
        assert with_mixture(architecture) in ModelRegistry.get_supported_archs()
        assert architecture in ModelRegistry.get_supported_archs(), "vLLM has it no more"
        assert architecture not in MODELS_CONFIG_MAP, "vLLM has options of its own for it, which ours replace"


def test_another_architecture_is_refused_by_name() -> None:
    with pytest.raises(EngineOptionError, match="MixtralForCausalLM"):
        with_mixture("MixtralForCausalLM")


def test_a_batch_without_seats_is_wrong(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """V1: the wrapped `_model_forward` is what tells whose tokens are whose."""
    monkeypatch.setattr(runner_v1, "_place", lambda runner, people: None)
    with engine(reference / CASE) as llm:
        said = ask(llm, reference / CASE)
    assert hasattr(GPUModelRunner._model_forward, runner_v1.WRAPPED)
    assert said.equal < said.rows / 2, said


def test_what_the_engine_refuses(reference: Path, tmp_path: Path) -> None:
    """`process_inputs` sees every request; no seat is taken by one without a person."""
    assert hasattr(InputProcessor.process_inputs, seams.WRAPPED)
    assert hasattr(Request.from_engine_core_request, seams.WRAPPED)
    prompt = {"prompt_token_ids": [5, 6, 7]}
    with engine(reference / CASE) as llm:
        for extra in (None, {}, {"cuma_profile": "AAAA"}, person(torch.zeros(5)), person(torch.full((16,), torch.nan))):
            with pytest.raises(VLLMValidationError, match="cuma_profile"):
                llm.generate([prompt], SamplingParams(max_tokens=2, detokenize=False, extra_args=extra), use_tqdm=False)
        said = ask(llm, reference / CASE)
    assert said.exact, "the engine did not go on"
    somebody = SamplingParams(max_tokens=2, detokenize=False, extra_args=person(torch.zeros(16)))
    with engine(reference / "llama-semantic") as llm, pytest.raises(VLLMValidationError, match="leave"):
        llm.generate([prompt], somebody, use_tqdm=False)


def test_a_repr_does_not_say_who_asks() -> None:
    vector = torch.randn(16)
    for extra in (person(vector), {"cuma_profile": vector.tolist()}):
        text = repr(Params(extra_args={**extra, "other": 7}))
        assert str(extra["cuma_profile"]) not in text
        assert "'other': 7" in text


# ---- V2: asked by vLLM on GPUs; here its parts are called as the runner calls them ----------------------------------


def test_v2_asks_the_model_for_its_state() -> None:
    class Model(WithMixture):
        def __init__(self) -> None:
            setattr(self, TABLE, object())

    assert resolve_model_state_cls(None, Model()) is PeopleState
    assert model_state_class(False) is not PeopleState
    source = inspect.getsource(model_runner.GPUModelRunner)
    assert "self.model_state.add_request(req_index, new_req_data)" in source
    assert "self.model_state.prepare_inputs(input_batch, self.req_states)" in source
    assert source.index("self.model_state.prepare_inputs(") < source.index("# Run model.")


def test_v2_seats_people_and_places_tokens(reference: Path) -> None:
    """Two requests in slots 4 and 1, with five and three tokens."""
    adapter = Adapter.read(reference / CASE / "adapter")
    name = "model.layers.0.self_attn.q_proj"
    mixture = Mixture(adapter.config, adapter.routers[name], [Part(0, adapter.layers[name])])
    people = People(adapter, [mixture], slots=8, tokens=64)
    state = object.__new__(PeopleState)
    state.model = type("Model", (), {TABLE: people})()
    state.rope_state = state.prompt_embeds_state = None
    who = expected(reference / CASE)["who"][:3:2]
    batch = InputBatch.make_dummy(2, 8, InputBuffers(8, 64, torch.device("cpu")))
    batch.idx_mapping = torch.tensor([4, 1])
    batch.query_start_loc[:3] = torch.tensor([0, 5, 8])
    for slot, vector in zip((4, 1), who, strict=True):
        data = type("New", (), {"sampling_params": SamplingParams(extra_args=person(vector))})()
        state.add_request(slot, data)
    assert state.prepare_inputs(batch, None) == {}
    found = people.of(mixture, 8)
    alone = People(adapter, [mixture], slots=1, tokens=8)
    for rows, vector in zip((found[:5], found[5:]), who, strict=True):
        alone.seat(0, vector_of(person(vector), 16))
        torch.testing.assert_close(rows, alone.rows.expand(len(rows), -1))


# ---- what a server is not started with ------------------------------------------------------------------------------


def args(case: Path, **options: Any) -> Any:
    settings = {"dtype": "float32", "enforce_eager": True, "max_model_len": 128, "skip_tokenizer_init": True,
                **engine_options(case / "base", case / "adapter"), **options}  # fmt: skip
    return EngineArgs(**settings).create_engine_config()


OPTIONS: dict[str, dict[str, Any]] = {
    "tensor_parallel_size": {"tensor_parallel_size": 2},
    "pipeline_parallel_size": {"pipeline_parallel_size": 2},
    "data_parallel_size": {"data_parallel_size": 2},
    "enable_lora": {"enable_lora": True},
    "speculative_config": {
        "speculative_config": {"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_max": 2}
    },
    "kv_transfer_config": {"kv_transfer_config": {"kv_connector": "ExampleConnector", "kv_role": "kv_both"}},
    "load_format": {"load_format": "dummy"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_under_which_it_would_not_be_exact(name: str, reference: Path) -> None:
    assert name in REFUSED
    with pytest.raises((EngineOptionError, ValueError), match=name):
        args(reference / CASE, **OPTIONS[name])


def test_every_option_that_is_looked_at_is_there(reference: Path) -> None:
    config = args(reference / CASE)
    assert not [name for name, (asked, _) in REFUSED.items() if asked(config)]


def test_an_adapter_that_is_damaged_or_of_another_base(reference: Path, tmp_path: Path) -> None:
    case = reference / CASE
    with pytest.raises((AdapterFileError, ValueError), match="no adapter's folder"):
        args(case, additional_config={ADAPTER: str(tmp_path)})
    with pytest.raises((EngineOptionError, ValueError), match="missing"):
        args(case, additional_config={})
    other = engine_options(reference / "qwen2" / "base", reference / "llama-own_routers" / "adapter")
    settings = json.loads((reference / "qwen2" / "base" / "config.json").read_text())
    assert settings["architectures"] == ["Qwen2ForCausalLM"]
    with pytest.raises((AdapterFileError, RuntimeError)):
        LLM(**(other | engine_options(reference / "smollm2" / "base", reference / CASE / "adapter")), dtype="float32",
            enforce_eager=True, max_model_len=64, skip_tokenizer_init=True)  # fmt: skip


def test_linear_layers_say_their_widths() -> None:
    source = inspect.getsource(LinearBase)
    assert "input_size" in source
    assert "requires_unquantized_input" in source
