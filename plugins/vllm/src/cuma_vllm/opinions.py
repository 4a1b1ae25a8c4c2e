"""/v1/opinions in vLLM's server: how people would answer a closed question, as `cuma serve` says it.

The companion writes the prompts and adds up the answers; the engine gives the letters' log-probabilities, all of them,
however unlikely.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from vllm import SamplingParams
from vllm.inputs.engine import tokens_input

from cuma_vllm.companion import Companion
from cuma_vllm.errors import CompanionError
from cuma_vllm.front import ASKING, LARGEST, error_body, whole_body
from cuma_vllm.person import KEY


async def opinions(request: Request) -> Response:
    """POST /v1/opinions."""
    companion: Companion = request.app.state.cuma_companion
    body = await whole_body(request.receive)
    if body is None:
        return _refusal(413, f"The request is larger than {LARGEST} bytes.")
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return _refusal(400, "The body is not valid JSON.")
    if isinstance(asked, dict) and asked.get("model") not in (None, companion.hello["name"]):
        return _refusal(404, f"There is no model of that name. Available: {companion.hello['name']}.")
    work = asyncio.ensure_future(_answered(companion, request.app.state.engine_client, asked))
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            return Response(status_code=499)  # nobody reads it; nginx's number for a client that left
        return JSONResponse(work.result())
    except ValueError as error:  # PersonError, and vLLM's own about a prompt that is too long
        return _refusal(400, str(error))
    except CompanionError as error:
        return _refusal(503, str(error))
    finally:
        for task in (work, gone):
            task.cancel()


async def _answered(companion: Companion, engine: Any, body: Any) -> dict[str, Any]:
    loop = asyncio.get_running_loop()

    async def ask(op: str, **content: Any) -> dict[str, Any]:
        return await loop.run_in_executor(ASKING, lambda: companion.ask(op, body=body, **content))

    put = await ask("opinions")
    rows = await asyncio.gather(*(
        _letters(engine, prompt, vector, put["letters"])
        for prompt, vector in zip(put["prompts"], put["vectors"], strict=True)
    ))  # fmt: skip
    return dict((await ask("shares", logprobs=rows))["reply"])


async def _letters(engine: Any, prompt: list[int], vector: str | None, letters: list[int]) -> list[float]:
    """The log-probability of each letter as the next token."""
    params = SamplingParams(
        max_tokens=1, temperature=1.0, detokenize=False, logprob_token_ids=letters,
        extra_args=None if vector is None else {KEY: vector},
    )  # fmt: skip
    stream = engine.generate(tokens_input(prompt), params, f"opinions-{uuid4().hex}")
    *_, last = [output async for output in stream]
    found = last.outputs[0].logprobs[0]
    return [float(found[letter].logprob) for letter in letters]


async def _gone(request: Request) -> None:
    """Until the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _refusal(status: int, text: str) -> JSONResponse:
    return JSONResponse(error_body(status, text), status)
