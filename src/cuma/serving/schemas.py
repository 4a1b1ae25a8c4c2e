"""What requests may hold. The words are OpenAI's; `profile`, `routing` and /v1/opinions are ours.

Every field is one that has an effect, and any other is refused by name. Three kinds of further fields are taken, as
clients send them and nothing is lost by it: null, which is absence; what changes no reply (`ignored`); and OpenAI's
other fields as long as they ask for nothing (`UNSUPPORTED`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cuma.data.surveys.prompts import LETTERS
from cuma.errors import ProfileError
from cuma.people.profiles import FIELDS, Profile
from cuma.serving.sampling import Sampling

LONGEST_FIELD, LONGEST_SENTENCE = 200, 2000
"""Characters of one profile field, and of a profile that is a ready sentence."""
MAX_SEED = 2**63 - 1
UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "audio": (), "best_of": (1,), "echo": (False,), "function_call": ("none", "auto"), "functions": ([],),
    "logit_bias": ({},), "modalities": (["text"],), "reasoning_content": ("",), "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},), "suffix": ("",), "tool_calls": ([],), "tool_choice": ("none", "auto"),
    "tools": ([],), "verbosity": ("medium",), "web_search_options": (),
}  # fmt: skip
"""OpenAI's fields that cannot be honoured here, with the values by which clients say that they want nothing of it."""


def _writable(text: str) -> str:
    """Half a surrogate pair is legal in JSON, and no text: no tokenizer takes it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair, which is no text") from None
    return text


Text = Annotated[str, AfterValidator(_writable)]


def _readable(profile: Any) -> Any:
    """Checked here so that a wrong profile is one more line of a 422, whose text never repeats a value."""
    try:
        Profile.parse(profile)
    except ProfileError as error:
        raise ValueError(str(error).encode("utf-8", "replace").decode()) from None
    return profile


ProfileValue = Annotated[Text, Field(max_length=LONGEST_FIELD)] | int | float | None
ProfileFields = Annotated[
    dict[str, ProfileValue],
    Field(max_length=len(FIELDS), json_schema_extra={"propertyNames": {"enum": list(FIELDS)}}),
    AfterValidator(_readable),
]
ProfileSentence = Annotated[Text, Field(max_length=LONGEST_SENTENCE), AfterValidator(_readable)]
ProfileInput = Annotated[
    ProfileFields | ProfileSentence | None,
    Field(
        description="Who asks: an object of named fields, all optional, or a sentence; left out: nobody in particular.",
        examples=[{"country": "Japan", "age": 30}, "A 55-year-old Buddhist woman living in Thailand"],
    ),
]


class Strict(BaseModel):
    """Unknown fields are refused, null is absence, numbers are finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    ignored: ClassVar[frozenset[str]] = frozenset()
    """Fields that are taken whatever they hold: they say nothing about the reply."""

    @model_validator(mode="before")
    @classmethod
    def _without_what_says_nothing(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        fields = {name: value for name, value in data.items() if value is not None and name not in cls.ignored}
        return {name: value for name, value in fields.items() if value not in UNSUPPORTED.get(name, ())}


class TextPart(Strict):
    """One part of a message's content."""

    ignored = frozenset({"cache_control"})
    type: Literal["text"]
    text: Text


class ChatMessage(Strict):
    """One turn of a conversation. `developer` is OpenAI's newer name for `system`."""

    ignored = frozenset({"name", "annotations"})
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[TextPart], Field(min_length=1, max_length=64)] | None = None
    refusal: Text | None = Field(None, description="The assistant's words, in the place of content.")

    @property
    def plain(self) -> dict[str, str]:
        """As a chat template takes it: role and content."""
        content = self.content or self.refusal or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}

    @model_validator(mode="after")
    def _check_content(self) -> ChatMessage:
        if self.content is None and self.role != "assistant":
            raise ValueError("content is missing")
        if self.refusal and (self.content or self.role != "assistant"):
            raise ValueError("refusal stands in the place of an assistant's content, and not beside it")
        return self


class StreamOptions(Strict):
    """What a stream ends with."""

    ignored = frozenset({"include_obfuscation"})
    include_usage: bool = False


class Generating(Strict):
    """What chat and completion requests have in common."""

    ignored = frozenset(
        {"metadata", "parallel_tool_calls", "prediction", "prompt_cache_key", "prompt_cache_retention",
         "safety_identifier", "service_tier", "store", "user"}
    )  # fmt: skip
    model: Annotated[Text, Field(max_length=256)] | None = Field(None, description="Left out: the first of /v1/models.")
    profile: ProfileInput = None
    ordinal: bool = Field(False, description="The options are steps on a scale, in its order.")
    routing: bool = Field(False, description="Also tell which experts spoke, by layer.")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 1.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = 0.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = 0.0
    seed: Annotated[int, Field(ge=-MAX_SEED, le=MAX_SEED)] | None = None
    n: Annotated[int, Field(ge=1, le=16)] | None = 1
    stop: Text | Annotated[list[Text], Field(max_length=4)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None

    @property
    def choices(self) -> int:
        """How many replies are wanted."""
        return self.n or 1

    @property
    def stops(self) -> list[str]:
        """The texts that end a reply."""
        return [self.stop] if isinstance(self.stop, str) else [text for text in self.stop or [] if text]

    def sampling(self, choice: int) -> Sampling:
        """How the choice with that number is sampled: with the same seed always alike, and unlike the others."""
        return Sampling(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            seed=None if self.seed is None else self.seed + choice,
        )

    @model_validator(mode="after")
    def _stream_options_need_a_stream(self) -> Generating:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options goes with stream: true")
        return self


class ChatRequest(Generating):
    """POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=512)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    logprobs: bool | None = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @model_validator(mode="after")
    def _top_logprobs_need_logprobs(self) -> ChatRequest:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs goes with logprobs: true")
        return self

    @property
    def top(self) -> int | None:
        """How many of the likeliest tokens are wanted beside each; None: no probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None


def _number_or_none(logprobs: Any) -> Any:
    """`false` is how chat requests say that they want none; as a number it would be 0."""
    return None if logprobs is False else logprobs


TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class CompletionRequest(Generating):
    """POST /v1/completions."""

    prompt: Text | TokenIds | Annotated[list[Text | TokenIds], Field(min_length=1, max_length=64)]
    logprobs: Annotated[Annotated[int, Field(ge=0, le=20)] | None, BeforeValidator(_number_or_none)] = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each prompt, as text or as tokens."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)


class Member(Strict):
    """A part of a population."""

    profile: ProfileInput = None
    weight: Annotated[float, Field(ge=0, le=1e12)] = 1.0


class OpinionsRequest(Strict):
    """POST /v1/opinions: how people would answer a closed question."""

    model: Annotated[Text, Field(max_length=256)] | None = Field(None, description="Left out: the first of /v1/models.")
    question: Annotated[Text, Field(min_length=1)]
    options: Annotated[list[Annotated[Text, Field(min_length=1)]], Field(min_length=2, max_length=len(LETTERS))]
    profiles: Annotated[list[ProfileInput], Field(min_length=1)] | None = None
    population: Annotated[list[Member], Field(min_length=1)] | None = None
    ordinal: bool = Field(False, description="The options are steps on a scale, in its order.")
    routing: bool = Field(False, description="Also tell which experts spoke, by layer.")

    @property
    def members(self) -> list[Member]:
        """Whoever is asked, with their weights; `profiles` count alike."""
        if self.population is not None:
            return self.population
        return [Member(profile=profile) for profile in self.profiles or []]

    @model_validator(mode="after")
    def _check_members(self) -> OpinionsRequest:
        if (self.profiles is None) == (self.population is None):
            raise ValueError("give either profiles, a list, or population, a list of {profile, weight}")
        if self.population is not None and not any(member.weight for member in self.population):
            raise ValueError("population: every weight is 0")
        return self


def profile_of(value: Mapping[str, Any] | str | None) -> Profile:
    """The profile of a request that was validated."""
    return Profile.parse(value)
