"""What the paper's recipes need, small: a random base that reads bytes, and its benchmarks in their authors' form."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from helpers.make_preferences import community_rows, prism_people, prism_talks, write_community, write_prism
from helpers.make_wvb import write_full_size, write_metadata
from helpers.tiny import llama

SPECIAL = ["<pad>", "<s>", "</s>"]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def write_base(folder: Path) -> Path:
    """A tiny random Llama whose tokens are bytes, with a chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = Tokenizer(models.BPE({token: number for number, token in enumerate([*SPECIAL, *alphabet])}, []))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token=SPECIAL[0], bos_token=SPECIAL[1], eos_token=SPECIAL[2]
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    llama(vocab_size=len(tokenizer), max_position_embeddings=2048, eos_token_id=2).save_pretrained(folder)
    return folder


def write_benchmark(name: str, folder: Path) -> Path:
    """One of the paper's three benchmarks from a small synthetic source, built as its recipe's header says."""
    source, output = folder / "source", folder / "built"
    source.mkdir(parents=True)
    if name == "wvb":
        write_metadata(source)
        names = ("question_metadata.json", "codebook.json")
        questions, codebook = (json.loads((source / one).read_text(encoding="utf-8")) for one in names)
        write_full_size(source, 60, questions, codebook, columns=10)
        build("wvb", source, output, Options(rows=120))
    elif name == "prism":
        build("prism", write_prism(source, prism_people(), prism_talks(40)), output, Options())
    else:
        build("community", write_community(source / "ca.csv", community_rows(40)), output, Options())
    return output
