"""Models that say what a test wants, and a vocabulary of SentencePiece's kind, where "▁" is a space."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from cuma.answering.answerer import Answerer, Source
from cuma.models.backbones import Backbone
from cuma.recipes.schema import BackboneSection
from helpers.tiny import llama

TEMPLATE = (
    "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
WORDS = ("one", "two", "true")


class ScriptedHead(torch.nn.Module):
    """Logits of every next token: those of a step's {token: logit}, and `others`."""

    def __init__(self, head: torch.nn.Linear, steps: Sequence[dict[int, float]], others: float) -> None:
        super().__init__()
        self.weight = head.weight
        self.steps, self.taken, self.others = list(steps), 0, others

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        logits = hidden.new_full((*hidden.shape[:-1], self.weight.shape[0]), self.others)
        for token, logit in self.steps[min(self.taken, len(self.steps) - 1)].items():
            logits[..., -1, token] = logit
        self.taken += 1
        return logits


def scripted(tokenizer: Any, steps: Sequence[int | dict[int, float]], others: float = -10.0) -> Answerer:
    """An untouched tiny model whose reply is these tokens, one a step, whatever it reads."""
    base = llama(vocab_size=len(tokenizer), max_position_embeddings=512, pad_token_id=None, bos_token_id=None)
    logits = [{step: 10.0} if isinstance(step, int) else step for step in steps]
    base.lm_head = ScriptedHead(base.lm_head, logits, others)
    backbone = Backbone(base.requires_grad_(False), tokenizer, "tiny", "none", None)
    return Answerer("tiny", Source(Path("tiny"), None, BackboneSection(), "prompt"), backbone, base, None, None)


@cache
def sentencepiece(drops_first_space: bool = True) -> PreTrainedTokenizerFast:
    """A vocabulary as Llama's (a text gets a first space, which the decoder drops) or Gemma's (it does not): letters,
    some words with and without a space before them, and a token for each byte."""
    letters = [*"abcdefghijklmnopqrstuvwxyzABC.,?[]:\n"]
    vocabulary, merges = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *letters], []
    for word in WORDS:
        for start in (f"▁{word[0]}", word[0]):
            merges += [(start[:1], start[1:])] if len(start) > 1 else []
            vocabulary += [start] if len(start) > 1 else []
            for place in range(1, len(word)):
                merges.append((start + word[1:place], word[place]))
                vocabulary.append(start + word[1 : place + 1])
    vocabulary = list(dict.fromkeys(vocabulary))
    made = Tokenizer(
        models.BPE({piece: n for n, piece in enumerate(vocabulary)}, merges, unk_token="<unk>", byte_fallback=True)
    )
    spaces = normalizers.Replace(" ", "▁")
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if drops_first_space else spaces
    steps: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    made.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if drops_first_space else steps)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>", chat_template=TEMPLATE
    )
