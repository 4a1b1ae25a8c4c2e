"""What an engine in another environment asks of cuma: who somebody is to the router, and how a question is put.

    python -m cuma.serving.companion RUN        # started by `cuma-vllm serve`, not by people

Lines of JSON, answers in the order of the questions; the first line of its output says what is served. It loads the
tokenizer and the sentence encoder, no language model, and writes nothing to disk. Profiles stand in its input alone:
neither its answers nor its errors repeat one.
"""

from __future__ import annotations

import base64
import json
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from pydantic import TypeAdapter, ValidationError

import cuma
from cuma.answering.answerer import Answerer, Answerers
from cuma.answering.letters import by_option, mean_over_orders
from cuma.answering.loading import Source
from cuma.errors import CumaError, ServingError, UnsupportedError
from cuma.models.backbones import Backbone, load_tokenizer
from cuma.people.profiles import Profile
from cuma.serving.opinions import Opinion, OpinionBatch, reply_of
from cuma.serving.refusals import problems
from cuma.serving.schemas import OpinionsRequest, ProfileInput, profile_of
from cuma.serving.service import REMEMBERED, Limits
from cuma.tuner.config import CumaConfig

_PROFILE: TypeAdapter[Any] = TypeAdapter(ProfileInput)


class Companion:
    """Knows one run's tokenizer and encoder. `ask` takes one line's content and gives the answer's."""

    def __init__(self, folder: str, encoder: str | None = None) -> None:
        """encoder: the sentence encoder, for adapters that do not say it. Raises CumaError as `Source.read`."""
        source = Source.read(folder)
        config = source.config
        if not isinstance(config, CumaConfig) or source.adapter is None:
            raise UnsupportedError(f"{folder} is no mixture. vLLM serves ordinary LoRAs itself (--enable-lora).")
        section = source.backbone
        if section.quantization is not None:
            raise UnsupportedError(f"{folder} was trained on a base in {section.quantization}, which vLLM lacks.")
        tokenizer, self._base = load_tokenizer(
            section.model_name_or_path, revision=section.revision, chat_template=section.chat_template
        )
        known = Answerers(encoder=encoder).encoder_of(config) if config.needs_profile else None
        backbone = Backbone(None, tokenizer, section.model_name_or_path, "", section.revision)
        self._answerer = Answerer(source.folder.resolve().name, source, backbone, None, None, known)
        self._adapter, self._dtype = source.adapter, section.dtype
        self._vectors: OrderedDict[Profile, str | None] = OrderedDict()
        self._questions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "profile": self._profile, "chat": self._chat, "opinions": self._opinions, "shares": self._shares,
        }  # fmt: skip

    def hello(self) -> dict[str, Any]:
        """What is served, and on what."""
        return {
            "cuma": cuma.__version__,
            "name": self._answerer.name,
            "adapter": str(self._adapter.resolve()),
            "base": str(Path(self._base).resolve()),
            "dtype": self._dtype,
            "chat_template": self._answerer.tokenizer.chat_template,
        }

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """An answer; what was wrong with the request is one: {"refused": a sentence without any value}."""
        try:
            return self._questions[question["op"]](question)
        except ValidationError as error:
            entries = error.errors(include_input=False)
            inside = "body" if question["op"] in ("opinions", "shares") else "profile"
            told = [{**entry, "loc": (inside, *entry["loc"])} for entry in entries]
            return {"refused": problems(told, tuple(OpinionsRequest.model_fields) if inside == "body" else ())}
        except CumaError as error:
            return {"refused": str(error)}

    def _profile(self, question: dict[str, Any]) -> dict[str, Any]:
        return {"vector": self._vector(self._read(question))}

    def _chat(self, question: dict[str, Any]) -> dict[str, Any]:
        """Also the conversation, as the model saw such ones: where the prompt says who asks, a persona in front."""
        profile = self._read(question)
        messages = [
            {**message, "role": "system"} if message.get("role") == "developer" else message
            for message in question["messages"]
        ]
        return {"vector": self._vector(profile), "messages": self._answerer.messages(messages, profile)}

    def _opinions(self, question: dict[str, Any]) -> dict[str, Any]:
        """The prompts, whose each is, and the tokens whose probabilities are wanted after it."""
        batch = self._batch(question["body"])
        people = [profile_of(member.profile) for member in self._body(question["body"]).members]
        return {
            "prompts": batch.prompts,
            "vectors": [self._vector(person) for person in people for _ in batch.orders],
            "letters": batch.tokens.letters(len(batch.orders[0])),
        }

    def _shares(self, question: dict[str, Any]) -> dict[str, Any]:
        """The reply to a client. logprobs: those of the letters after each prompt, in the order of `_opinions`."""
        body, batch = self._body(question["body"]), self._batch(question["body"])
        rows = [np.exp(np.asarray(row, dtype=np.float64)) for row in question["logprobs"]]
        each = len(batch.orders)
        answers = []
        for start in range(0, len(rows), each):
            shown = zip(batch.orders, rows[start : start + each], strict=True)
            answers.append(Opinion(*mean_over_orders([by_option(order, row) for order, row in shown]), None))
        return {"reply": reply_of(self._answerer.name, body, answers)}

    def _body(self, body: Any) -> OpinionsRequest:
        request = OpinionsRequest.model_validate(body)
        if request.routing:
            raise ServingError("routing: this engine does not tell which experts spoke; leave it out.")
        most = Limits().max_profiles
        if len(request.members) > most:
            raise ServingError(
                f"{len(request.members)} people were asked for; one request may ask {most}. Send several."
            )
        return request

    def _batch(self, body: Any) -> OpinionBatch:
        request = self._body(body)
        people = [profile_of(member.profile) for member in request.members]
        return OpinionBatch(self._answerer, request.question, request.options, people, ordinal=request.ordinal)

    def _read(self, question: dict[str, Any]) -> Profile:
        return profile_of(_PROFILE.validate_python(question.get("profile")))

    def _vector(self, profile: Profile) -> str | None:
        """What the router reads of a person, as base64 of little-endian fp32; None if it reads nothing."""
        if profile not in self._vectors:
            embeds = self._answerer.embeds([profile])
            text = None if embeds is None else base64.b64encode(embeds[0].numpy().astype("<f4").tobytes()).decode()
            self._vectors[profile] = text
        self._vectors.move_to_end(profile)
        if len(self._vectors) > REMEMBERED:
            self._vectors.popitem(last=False)
        return self._vectors[profile]


def serve(companion: Companion, lines: TextIO, out: TextIO) -> None:
    """Answer until the input ends."""
    print(json.dumps(companion.hello()), file=out, flush=True)
    for line in lines:
        question = json.loads(line)
        try:
            answer = companion.ask(question)
        except Exception as error:  # its text may be what somebody wrote about themselves
            print(f"cuma: an unexpected {type(error).__name__}", file=sys.stderr, flush=True)
            answer = {"failed": type(error).__name__}
        print(json.dumps({"id": question["id"], **answer}), file=out, flush=True)


def main() -> int:
    """Raises nothing: an error is one line, {"error": …}, and status 1."""
    out, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer
    try:
        companion = Companion(*sys.argv[1:3])
    except CumaError as error:
        print(json.dumps({"error": str(error)}), file=out, flush=True)
        return 1
    serve(companion, sys.stdin, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
