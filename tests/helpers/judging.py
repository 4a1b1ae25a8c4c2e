"""A judge to judge with: a real server on this machine that speaks chat completions and says what it is told to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

from cuma.judge import Judge

Says = Callable[[dict[str, Any], int], str | int | tuple[int, str]]
"""(what it was shown, which try this is) → its reply; or an HTTP status; or a redirect's status and address. In a reply
CODE becomes the code that was asked for."""


class Server(ThreadingHTTPServer):
    """Answers with `says` and notes what it was sent."""

    def __init__(self, says: Says) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.says = says
        self.lock = Lock()
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def shown(self) -> list[dict[str, Any]]:
        return [shown(body) for body in self.bodies]

    def respond(self, body: dict[str, Any], text: str, key: str) -> tuple[int, str, dict[str, str]]:
        """(status, body, headers) for a request; text is its body as it came."""
        tries = sum(message["role"] == "user" for message in body["messages"])
        said = self.says(shown(body), tries)
        if isinstance(said, tuple):
            return said[0], "", {"Location": said[1]}
        if isinstance(said, int):  # servers like to quote what they were sent
            quoted = {"error": {"message": f"{text} {key}", "code": text, "type": text}}
            return said, json.dumps(quoted), {"retry-after-ms": "1"}
        said = said.replace("CODE", code(body))
        return 200, said[5:] if said.startswith("RAW: ") else json.dumps(completion([said])), {}

    def judge(self, folder: Any, **options: Any) -> Judge:
        return Judge("tiny-judge", **({"base_url": self.url, "max_requests": 1000, "cache_dir": folder} | options))


def shown(body: dict[str, Any]) -> dict[str, Any]:
    return json.loads(body["messages"][1]["content"])


def code(body: dict[str, Any]) -> str:
    """What the verdict must carry, by the judge's instructions."""
    return body["messages"][0]["content"].partition("[[A:")[2].partition("]]")[0]


def completion(replies: list[str], logprobs: Any = None) -> dict[str, Any]:
    """A chat completion with these replies as its choices."""
    choices = [
        {
            "index": number,
            "message": {"role": "assistant", "content": reply},
            "finish_reason": "stop",
            "logprobs": logprobs,
        }
        for number, reply in enumerate(replies)
    ]
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": choices}


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        body = json.loads(text)
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.keys.append(self.headers["Authorization"])
        self._send(*self.server.respond(body, text, self.headers["Authorization"]))

    def _send(self, status: int, text: str, headers: dict[str, str]) -> None:
        data = text.encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **headers,
        }.items():
            self.send_header(name, value)
        with suppress(BrokenPipeError):  # whoever asked did not wait
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def running(server: Server) -> Iterator[Server]:
    with server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def serving(says: Says) -> AbstractContextManager[Server]:
    return running(Server(says))


def prefers(better: Callable[[str], float]) -> Says:
    """An honest judge: the reply for which `better` is larger, wherever it stands."""

    def says(shown: dict[str, Any], _: int) -> str:
        a, b = better(shown["reply A"]), better(shown["reply B"])
        return f"Because.\n[[{'TIE' if a == b else 'A' if a > b else 'B'}:CODE]]"

    return says
