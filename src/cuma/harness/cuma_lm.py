"""The model type "cuma" of lm-evaluation-harness: a run, or an adapter on a backbone, asked by whoever a request says.

A batch may hold many people. The harness sorts and groups requests by their tokens, so who asks has to be among them: a
row's first token is the number of its profile, above the vocabulary; it is taken off before the model reads the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.model import CacheHook
from lm_eval.models.huggingface import HFLM

from cuma.answering.answerer import Answerers, Source
from cuma.errors import ConfigError, UnsupportedError
from cuma.harness.marker import unmark
from cuma.people.profiles import Profile
from cuma.recipes.schema import BackboneSection


class CumaLM(HFLM):
    """`lm-eval run --model cuma --model_args run=runs/mine`, or `backbone=…,adapter=…`.

    A request without a profile is asked by nobody in particular.
    """

    cache_hook: CacheHook

    def __init__(
        self,
        run: str | None = None,
        backbone: str | None = None,
        adapter: str | None = None,
        dtype: str | None = None,
        revision: str | None = None,
        quantization: str | None = None,
        encoder: str | None = None,
        device: str | None = None,
        batch_size: int | str = 8,
        **options: Any,
    ) -> None:
        """Args:
            run: a run's folder, or an adapter's; says backbone and adapter itself.
            backbone: a name that `cuma list backbones` shows, a local folder, or a Hub id.
            adapter: an adapter's folder on that backbone; None: the untouched model.
            dtype: number format of the base weights; None: the recipe's, or float32.
            revision: of the backbone on the Hub; None: the recipe's, or the default one.
            quantization: "4bit" or "8bit"; None: as the recipe says, or none.
            encoder: the sentence encoder, for an adapter that does not say which it was trained with.
            device: None: the GPU if there is one.
            batch_size: requests at once, or "auto".
            options: further ones of the harness's own "hf" model type, such as max_length.

        Raises:
            ConfigError: neither run nor backbone, or both.
            UnsupportedError: a run or an adapter that cannot answer people, in the words of `cuma chat`.
        """
        given = {"dtype": dtype, "revision": revision, "quantization": quantization}
        instead = {name: value for name, value in given.items() if value is not None}
        loader = Answerers(device=device, encoder=encoder, **instead)
        answerer = loader.load(_source(run, backbone, adapter))
        self._encoder = answerer.encoder
        self._people: dict[Profile, int] = {Profile(): 0}
        self._one_for_all = 0
        """The person of requests that come without one among their tokens: `loglikelihood_rolling`'s."""
        super().__init__(
            pretrained=answerer.model, tokenizer=answerer.tokenizer, backend="causal", batch_size=batch_size, **options
        )

    @property
    def max_length(self) -> int:
        """One more than the model reads: the person's number takes a place."""
        return super().max_length + 1

    # ---- from requests to tokens ----------------------------------------------------------------------------------

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        profile, text = unmark(context)
        if not text:
            said = self.tok_encode(continuation, add_special_tokens=False)
            return [self._number(profile), self.prefix_token_id], said
        context_tokens, continuation_tokens = super()._encode_pair(text, continuation)
        return [self._number(profile), *context_tokens], continuation_tokens

    def _loglikelihood_tokens(self, requests: list[Any], *args: Any, **kwargs: Any) -> list[tuple[float, bool]]:
        whole = []
        for text, context, continuation in requests:
            marked = context[0] >= self._vocabulary
            tokens = context if marked else [self._vocabulary + self._one_for_all, *context]
            if len(tokens) + len(continuation) > self.max_length + 1:
                raise UnsupportedError(
                    f"a request has {len(tokens) + len(continuation) - 1} tokens and the model reads "
                    f"{self.max_length - 1}: the harness would cut it at the left. Use fewer examples."
                )
            whole.append((text, tokens, continuation))
        return super()._loglikelihood_tokens(whole, *args, **kwargs)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Each text's log-likelihood under its own profile; windows of one text are all asked by the same person."""
        split = [unmark(request.args[0]) for request in requests]
        found: list[float] = [0.0] * len(requests)
        hook = self.cache_hook
        self.cache_hook = CacheHook(None)  # it would cache by the text without the profile
        try:
            for profile in dict.fromkeys(profile for profile, _ in split):
                rows = [row for row, (who, _) in enumerate(split) if who == profile]
                self._one_for_all = self._number(profile) - self._vocabulary
                own = [replace(requests[row], arguments=(split[row][1],)) for row in rows]
                for row, value in zip(rows, super().loglikelihood_rolling(own, disable_tqdm), strict=True):
                    found[row] = value
        finally:
            self.cache_hook, self._one_for_all = hook, 0
        return found

    def tok_batch_encode(self, strings: Sequence[str], *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, 1 + T] tokens, the first of each row the person's number, and their mask."""
        split = [unmark(text) for text in strings]
        ids, mask = super().tok_batch_encode([text for _, text in split], *args, **kwargs)
        numbers = torch.tensor([[self._number(profile)] for profile, _ in split])
        return torch.cat([numbers, ids], dim=1), torch.cat([torch.zeros_like(numbers), mask], dim=1)

    # ---- from tokens to the model ---------------------------------------------------------------------------------

    def _model_call(self, inps: torch.Tensor, attn_mask: Any = None, labels: Any = None) -> torch.Tensor:
        """Logits [B, 1 + T, V]; the first place, the person's number, has none (zeros)."""
        tokens, people = self._split(inps)
        with torch.no_grad():
            logits = self.model(input_ids=tokens, **people).logits
        return torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1) if tokens.shape != inps.shape else logits

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **kwargs: Any) -> torch.Tensor:
        tokens, people = self._split(context)
        mask = kwargs.pop("attention_mask")[:, 1:]
        made = super()._model_generate(tokens, max_length - 1, stop, attention_mask=mask, **people, **kwargs)
        return torch.cat([context[:, :1], made], dim=1)

    def _split(self, rows: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Rows without the people's numbers, and their embeddings for a router that reads them.

        Rows without numbers are the harness's own trials of a batch size.
        """
        numbered = bool((rows[:, 0] >= self._vocabulary).all())
        numbers = (rows[:, 0] - self._vocabulary).tolist() if numbered else [0] * len(rows)
        tokens = rows[:, 1:] if numbered else rows
        if self._encoder is None:
            return tokens, {}
        people = list(self._people)
        return tokens, {"profile_embeds": self._encoder([people[number] for number in numbers]).to(rows.device)}

    def _number(self, profile: Profile) -> int:
        """The token that stands for a person; their place in `_people`, above the vocabulary."""
        return self._vocabulary + self._people.setdefault(profile, len(self._people))

    @property
    def _vocabulary(self) -> int:
        return max(len(self.tokenizer), int(self.config.vocab_size))


def _source(run: str | None, backbone: str | None, adapter: str | None) -> Source:
    if (run is None) == (backbone is None):
        raise ConfigError("--model cuma needs either run=FOLDER or backbone=NAME (with adapter=FOLDER, or without).")
    if backbone is None:
        return Source.read(str(run))
    if adapter is None:
        return Source(Path(backbone), None, BackboneSection(model_name_or_path=backbone), "prompt")
    source = Source.read(adapter)
    same = source.backbone.model_name_or_path == backbone  # else the revision that it names is of another model
    return source if same else replace(source, backbone=BackboneSection(model_name_or_path=backbone))
