"""What clients send: their own replies, null for absent, fields that ask for nothing; and what is refused by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest

from cuma.serving.schemas import ChatRequest
from helpers.scripted import scripted
from helpers.served import PERUVIAN, serving, tiny_answerer, tokenizer

ASK = [{"role": "user", "content": "May one lie to a friend?"}]
CHAT, TEXT, OPINIONS = "/v1/chat/completions", "/v1/completions", "/v1/opinions"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"model": "tiny", "messages": ASK, "max_tokens": 2, "temperature": 0},
    TEXT: {"model": "tiny", "prompt": "Hm", "max_tokens": 2, "temperature": 0},
    OPINIONS: {"question": "Tea?", "options": ["Yes", "No"], "profiles": [None]},
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving([tiny_answerer()]) as (address, _):
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made:
        yield made


def post(url: str, path: str, **fields: Any) -> httpx2.Response:
    return httpx2.post(f"{url}{path}", json=BODIES[path] | fields, timeout=60)


def text_of(reply: httpx2.Response) -> str:
    assert reply.status_code == 200, reply.text
    (choice,) = reply.json()["choices"]
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


# ---- the conversation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_is_taken_back_in_every_form_that_the_client_gives_it(client: openai.OpenAI, stream: bool) -> None:
    options = {"model": "tiny", "max_tokens": 4, "temperature": 0, "extra_body": {"profile": PERUVIAN}}
    reply = client.chat.completions.create(messages=ASK, **options).choices[0].message
    forms = [reply, reply.model_dump(), reply.model_dump(exclude_none=True), reply.to_dict()]
    nulls = {"refusal": None, "annotations": [], "audio": None, "function_call": None, "tool_calls": []}
    forms += [{"role": "assistant", "content": reply.content} | nulls]
    forms += [{"role": "assistant", "content": [{"type": "text", "text": reply.content, "cache_control": {}}]}]
    texts = set()
    for form in forms:
        messages = [*ASK, form, {"role": "user", "content": "And why?", "name": "Ada"}]
        answer = client.chat.completions.create(messages=messages, stream=stream, **options)
        if stream:
            texts.add("".join(chunk.choices[0].delta.content or "" for chunk in answer))
        else:
            texts.add(answer.choices[0].message.content)
    assert len(texts) == 1


def test_the_messages_of_the_clients_helpers_are_taken_back() -> None:
    """They refuse replies that were cut, so this one ends by itself."""
    steps = [*tokenizer().encode("Yes"), tokenizer().eos_token_id]
    options: dict[str, Any] = {"model": "tiny", "max_tokens": 4, "temperature": 0}
    with (
        serving([scripted(tokenizer(), steps)]) as (url, _),
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        with client.chat.completions.stream(messages=ASK, **options) as stream:
            message = stream.get_final_completion().choices[0].message
        assert message.content == "Yes"
        parsed = client.chat.completions.parse(messages=[*ASK, message, *ASK], **options).choices[0].message
        assert client.chat.completions.create(messages=[*ASK, parsed, *ASK], **options).choices


def test_developer_is_system(url: str) -> None:
    texts = [
        text_of(post(url, CHAT, messages=[{"role": role, "content": "Say something long."}, *ASK], max_tokens=8))
        for role in ("developer", "system", "user")
    ]
    assert texts[0] == texts[1] != texts[2]


def test_parts_of_a_text_are_the_text(url: str) -> None:
    parts = [{"type": "text", "text": "May one lie "}, {"type": "text", "text": "to a friend?"}]
    assert text_of(post(url, CHAT, messages=[{"role": "user", "content": parts}])) == text_of(post(url, CHAT))


def test_an_assistant_may_have_said_nothing_or_refused(url: str) -> None:
    silent: list[dict[str, Any]] = [{"role": "assistant"}, {"role": "assistant", "content": None, "tool_calls": None}]
    for message in (*silent, {"role": "assistant", "content": ""}):
        assert post(url, CHAT, messages=[*ASK, message, *ASK]).status_code == 200
    refused = ChatRequest(messages=[{"role": "assistant", "content": None, "refusal": "I will not."}])
    assert refused.messages[0].plain == {"role": "assistant", "content": "I will not."}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"role": "user"}, "content is missing"),
        ({"role": "developer", "content": None}, "content is missing"),
        ({"role": "assistant", "content": "a", "refusal": "b"}, "refusal stands in the place"),
        (
            {"role": "assistant", "content": "a", "tool_calls": [{"id": "1"}]},
            "messages.0.tool_calls: this server",
        ),
        ({"role": "assistant", "content": "a", "audio": {"id": "1"}}, "messages.0.audio: this server"),
        ({"role": "tool", "content": "a"}, "messages.0.role"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "'text'"),
        ({"role": "user", "content": "a", "contents": "b"}, "messages.0.contents: there is no such field"),
    ],
)
def test_what_a_message_cannot_hold_is_refused_by_name(message: dict[str, Any], words: str, url: str) -> None:
    reply = post(url, CHAT, messages=[message])
    assert reply.status_code == 422
    assert words in reply.json()["error"]["message"]


# ---- who asks -------------------------------------------------------------------------------------------------------

PRINTED = [str(PERUVIAN), json.dumps(PERUVIAN), json.dumps(json.dumps(PERUVIAN)), str(PERUVIAN | {"sex": None})]
"""An object as Python and JSON print it: what a table that went through a CSV holds."""


@pytest.mark.parametrize("profile", PRINTED)
def test_a_profile_that_was_printed_is_the_object(profile: str, url: str) -> None:
    assert text_of(post(url, CHAT, profile=profile)) == text_of(post(url, CHAT, profile=PERUVIAN))
    assert text_of(post(url, TEXT, profile=profile)) == text_of(post(url, TEXT, profile=PERUVIAN))
    asked = post(url, OPINIONS, profiles=[profile, PERUVIAN]).json()["data"]
    assert asked[0]["probabilities"] == pytest.approx(asked[1]["probabilities"])
    whole = post(url, OPINIONS, profiles=None, population=[{"profile": profile, "weight": 2}]).json()["population"]
    assert whole["probabilities"] == pytest.approx(asked[1]["probabilities"])


@pytest.mark.parametrize(
    "profile",
    ["{'country': 'Zoro", "['Zoro']", "{'country': ['Zoro']}", "{country: Zoro}", "b'Zoro'", {"country": "['Zoro']"}],
)
def test_a_profile_that_cannot_be_read_whole_is_refused_and_not_repeated(profile: Any, url: str) -> None:
    for path, fields in (
        (CHAT, {"profile": profile}),
        (TEXT, {"profile": profile}),
        (OPINIONS, {"profiles": [profile]}),
    ):
        reply = post(url, path, **fields)
        assert reply.status_code == 422
        assert "profile" in reply.json()["error"]["message"]
        assert "Zoro" not in reply.text


# ---- fields ---------------------------------------------------------------------------------------------------------

HARMLESS: dict[str, Any] = {
    "user": "u-1", "store": True, "metadata": {"run": "7"}, "service_tier": "auto", "parallel_tool_calls": True,
    "safety_identifier": "x", "prompt_cache_key": "k", "prediction": {"type": "content", "content": "Yes"},
    "tools": [], "tool_choice": "auto", "functions": [], "function_call": "none", "logit_bias": {},
    "modalities": ["text"], "response_format": {"type": "text"}, "stop": [], "seed": 7, "top_logprobs": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", HARMLESS)
def test_what_asks_for_nothing_changes_nothing(name: str, url: str) -> None:
    assert text_of(post(url, CHAT, **{name: HARMLESS[name]})) == text_of(post(url, CHAT))


def test_null_is_absence_in_every_field_known_and_unknown(url: str) -> None:
    document = httpx2.get(f"{url}/openapi.json").json()["components"]["schemas"]
    for path, schema in ((CHAT, "ChatRequest"), (TEXT, "CompletionRequest"), (OPINIONS, "OpinionsRequest")):
        optional = set(document[schema]["properties"]) - set(BODIES[path])
        nulls = dict.fromkeys([*optional, *HARMLESS, "echo", "suffix", "best_of", "reasoning_effort", "of_tomorrow"])
        assert post(url, path, **nulls).status_code == 200, path
    streamed = post(url, CHAT, stream=True, stream_options={"include_usage": True, "include_obfuscation": False})
    assert '"usage"' in streamed.text.split("data: ")[-2]


def test_a_text_request_that_asks_for_nothing_more_is_taken(url: str) -> None:
    neutral = {"echo": False, "suffix": "", "best_of": 1, "logprobs": False, "user": "u-1", "logit_bias": {}}
    assert text_of(post(url, TEXT, **neutral)) == text_of(post(url, TEXT))


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        (CHAT, "tools", [{"type": "function", "function": {"name": "f"}}]),
        (CHAT, "tool_choice", "required"),
        (CHAT, "response_format", {"type": "json_object"}),
        (CHAT, "response_format", {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}),
        (CHAT, "functions", [{"name": "f"}]),
        (CHAT, "logit_bias", {"5": 100}),
        (CHAT, "modalities", ["text", "audio"]),
        (CHAT, "audio", {"voice": "alloy", "format": "wav"}),
        (CHAT, "reasoning_effort", "high"),
        (CHAT, "web_search_options", {}),
        (TEXT, "echo", True),
        (TEXT, "suffix", "end"),
        (TEXT, "best_of", 3),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(path: str, name: str, value: Any, url: str) -> None:
    reply = post(url, path, **{name: value})
    assert reply.status_code == 422
    assert f"{name}: this server cannot do that; leave it out" in reply.json()["error"]["message"]
    assert reply.json()["error"]["param"] == name


@pytest.mark.parametrize("value", [{}, [], "", False])
def test_an_unknown_field_is_refused_whatever_it_holds(value: Any, url: str) -> None:
    reply = post(url, CHAT, temprature=value)
    assert "Did you mean 'temperature'" in reply.json()["error"]["message"]
