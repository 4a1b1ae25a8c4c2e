"""What requests may hold. The words are OpenAI's; `profile`, `routing` and /v1/opinions are ours.

Every field is one that has an effect; any other is refused by name, so that nothing is ignored in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from cuma.data.surveys.prompts import LETTERS
from cuma.errors import ProfileError
from cuma.people.profiles import FIELDS, Profile
from cuma.serving.sampling import Sampling

LONGEST_FIELD, LONGEST_SENTENCE = 200, 2000
"""Characters of one profile field, and of a profile that is a ready sentence."""
MAX_SEED = 2**63 - 1


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
    """Unknown fields are refused; numbers are finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class TextPart(Strict):
    """One part of a message's content."""

    type: Literal["text"]
    text: Text


class ChatMessage(Strict):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Text | Annotated[list[TextPart], Field(min_length=1, max_length=64)]
    name: Annotated[str, Field(max_length=64)] | None = Field(None, description="Accepted, and not shown to the model.")

    @property
    def plain(self) -> dict[str, str]:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": self.role, "content": text}


class StreamOptions(Strict):
    """What a stream ends with."""

    include_usage: bool = False


class Generating(Strict):
    """What chat and completion requests have in common."""

    model: Annotated[Text, Field(max_length=256)] | None = Field(None, description="Left out: the first of /v1/models.")
    profile: ProfileInput = None
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
    user: Annotated[str, Field(max_length=512)] | None = Field(None, description="Accepted, and neither kept nor used.")

    @property
    def choices(self) -> int:
        return self.n or 1

    @property
    def stops(self) -> list[str]:
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
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs goes with logprobs: true")
        return self

    @property
    def top(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None


TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class CompletionRequest(Generating):
    """POST /v1/completions."""

    prompt: Text | TokenIds | Annotated[list[Text | TokenIds], Field(min_length=1, max_length=64)]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
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
