"""From validated requests to orders for the engine: which model, whose prompt, how long."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from cuma.answering.answerer import Answerer
from cuma.errors import ServingError, UnknownModelError, suggestion
from cuma.models.chat_template import conversation_tokens
from cuma.people.profiles import Profile
from cuma.serving.engine import Engine
from cuma.serving.generation import Order
from cuma.serving.opinions import OpinionBatch
from cuma.serving.schemas import ChatRequest, CompletionRequest, Generating, OpinionsRequest, profile_of

COMPLETION_TOKENS = 16
"""max_tokens of a completion that does not say it; OpenAI's number."""
REMEMBERED = 512
"""People whose embeddings are kept in memory; nothing of them is written anywhere."""

R = TypeVar("R", bound=Generating)


@dataclass(frozen=True)
class Limits:
    """What one request, and one client, may ask for."""

    max_body_bytes: int = 2**20
    max_prompt_tokens: int = 2048
    max_tokens: int = 1024
    """Tokens of one reply; also what a chat gets that does not say how many."""
    max_profiles: int = 64
    """People in one request to /v1/opinions."""
    requests_per_minute: int = 600
    """For each key; 0: as many as come."""


class Service:
    """Knows the models and the limits. `prepare` runs what takes milliseconds off the server's loop, one at a time."""

    def __init__(self, engine: Engine, limits: Limits | None = None) -> None:
        self.engine = engine
        self.limits = limits or Limits()
        self.prepare = ThreadPoolExecutor(1, thread_name_prefix="cuma-prepare")
        for answerer in engine.answerers.values():
            # A fast tokenizer changes its settings in its first call only; later ones may come from several threads.
            answerer.tokenizer("")
        self._embeds: OrderedDict[tuple[int, Profile], Tensor] = OrderedDict()

    def answerer(self, name: str | None) -> Answerer:
        """The model of that name; None: the first. Raises UnknownModelError."""
        known = self.engine.answerers
        if name is None:
            return next(iter(known.values()))
        if name not in known:
            raise UnknownModelError(f"There is no model of that name. {suggestion(name, known)}")
        return known[name]

    def chat(self, request: ChatRequest, client: str) -> list[Order]:
        """Orders for the choices of a chat request. Raises CumaError."""
        answerer = self.answerer(request.model)
        profile = profile_of(request.profile)
        messages = answerer.messages([message.plain for message in request.messages], profile)
        wanted = request.max_completion_tokens or request.max_tokens
        return self._orders(
            request, answerer, chat_prompt(answerer, messages), profile, wanted, self.limits.max_tokens, request.top,
            client,
        )  # fmt: skip

    def completions(self, request: CompletionRequest, client: str) -> list[Order]:
        """Orders for the choices of a completion request: all of the first prompt, then of the second, ….

        Raises CumaError.
        """
        answerer = self.answerer(request.model)
        profile = profile_of(request.profile)
        orders: list[Order] = []
        for prompt in request.prompts:
            tokens = prompt if isinstance(prompt, list) else answerer.tokenizer.encode(prompt)
            _check_tokens(tokens, answerer)
            orders += self._orders(
                request, answerer, tokens, profile, request.max_tokens, COMPLETION_TOKENS, request.logprobs, client,
                continues=bool(answerer.tokenizer.decode(tokens, skip_special_tokens=True)),
            )  # fmt: skip
        return orders

    def asking(self, request: OpinionsRequest) -> OpinionBatch:
        """A question that can be put to people. Raises CumaError."""
        members = request.members
        if len(members) > self.limits.max_profiles:
            raise ServingError(
                f"{len(members)} people were asked for; one request may ask {self.limits.max_profiles}. Send several."
            )
        people = [profile_of(member.profile) for member in members]
        asking = OpinionBatch(
            self.answerer(request.model),
            request.question,
            request.options,
            people,
            ordinal=request.ordinal,
            routing=request.routing,
        )
        self._check_length(asking.answerer, asking.longest, 1)
        return asking

    def embed(self, answerer: Answerer, profile: Profile) -> Tensor | None:
        """[1, D] what the router reads of a person; None if it reads nothing."""
        if answerer.encoder is None:
            return answerer.embeds([profile])
        key = (id(answerer.encoder), profile)
        if key not in self._embeds:
            embeds = answerer.embeds([profile])
            assert embeds is not None  # there is an encoder
            self._embeds[key] = embeds
        self._embeds.move_to_end(key)
        if len(self._embeds) > REMEMBERED:
            self._embeds.popitem(last=False)
        return self._embeds[key]

    def _orders(
        self,
        request: Generating,
        answerer: Answerer,
        tokens: Sequence[int],
        profile: Profile,
        wanted: int | None,
        default: int,
        top: int | None,
        client: str,
        continues: bool = False,
    ) -> list[Order]:
        room = self._check_length(answerer, len(tokens), wanted)
        return [
            Order(
                answerer,
                tokens,
                self.embed(answerer, profile),
                max_tokens=wanted or min(default, room),
                sampling=request.sampling(choice),
                stop=request.stops,
                top_logprobs=top,
                routing=request.routing,
                continues=continues,
                client=client,
            )
            for choice in range(request.choices)
        ]

    def _check_length(self, answerer: Answerer, prompt: int, wanted: int | None) -> int:
        """How many tokens a reply may have. Raises ServingError if prompt or reply are too long."""
        limits, context = self.limits, context_of(answerer)
        if prompt == 0:
            raise ServingError("The prompt is empty. Give at least one token.")
        if prompt > limits.max_prompt_tokens or prompt >= context:
            most = min(limits.max_prompt_tokens, context - 1)
            raise ServingError(f"The prompt has {prompt} tokens; this server takes at most {most}. Shorten it.")
        room = min(limits.max_tokens, context - prompt)
        if wanted is not None and wanted > room:
            raise ServingError(
                f"{wanted} tokens were asked for after a prompt of {prompt}; at most {room} are possible. "
                "Lower max_tokens."
            )
        return room


def chat_prompt(answerer: Answerer, messages: list[dict[str, str]]) -> list[int]:
    """Token ids of a conversation up to the reply. Raises ConversationError where the model's template refuses it."""
    return conversation_tokens(answerer.tokenizer, messages)


def context_of(answerer: Answerer) -> int:
    """Tokens that a prompt and its reply may have together. A sliding window is never left, so that it never bites."""
    config: Any = answerer.backbone.model.config.get_text_config()
    settings = config.to_dict()
    longest = [settings.get(name) for name in ("max_position_embeddings", "n_positions", "sliding_window")]
    return min((length for length in longest if isinstance(length, int) and length > 0), default=2**31)


def _check_tokens(tokens: Sequence[int], answerer: Answerer) -> None:
    size = answerer.backbone.model.get_input_embeddings().weight.shape[0]
    if any(token >= size for token in tokens):
        raise ServingError(f"The prompt holds a token id beyond the model's vocabulary of {size}.")
