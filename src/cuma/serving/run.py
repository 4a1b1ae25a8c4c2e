"""Starting the server: where it may listen, what it says, and how it ends."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence

import uvicorn

from cuma.answering.answerer import Answerer
from cuma.errors import ServingError
from cuma.serving.app import build_app
from cuma.serving.engine import Capacity, Engine
from cuma.serving.guard import Keys, is_loopback
from cuma.serving.service import Limits

GRACE_SECONDS = 5
"""How long requests may go on after Ctrl-C."""
KEEP_ALIVE_SECONDS = 75
"""How long a connection may be idle: longer than clients (httpx: 5) and proxies (nginx: 60) keep one, so that it is
closed on their side. At uvicorn's own 5 a request that comes at that very moment finds the connection closed."""


def check_binding(host: str, keys: Sequence[str]) -> None:
    """Raises ServingError for a server that anybody could reach without a key, and for keys that are too short."""
    if not Keys(keys) and not is_loopback(host):
        raise ServingError(
            f"{host} can be reached from other machines, so an API key is required: set CUMA_API_KEY, or give "
            "--api-key-file. `openssl rand -hex 24` makes one. Put a proxy with TLS in front: keys and profiles should "
            "not travel in the clear."
        )


def serve_forever(
    answerers: Sequence[Answerer],
    host: str,
    port: int,
    *,
    keys: Sequence[str] = (),
    capacity: Capacity | None = None,
    limits: Limits | None = None,
) -> None:
    """Serve until Ctrl-C. Raises ServingError as `check_binding`, or if the port is taken."""
    check_binding(host, keys)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with Engine(answerers, capacity) as engine:
        app = build_app(engine, limits=limits, keys=keys)
        # uvicorn's access log repeats query strings, and those are the client's words: ours knows routes only.
        config = uvicorn.Config(
            app, host=host, port=port, access_log=False, log_level="warning", timeout_graceful_shutdown=GRACE_SECONDS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS, server_header=False,
        )  # fmt: skip
        server = _Server(config, [answerer.name for answerer in answerers])
        try:
            server.run()
        except SystemExit as ended:  # how uvicorn ends when it cannot listen
            raise ServingError(f"Cannot listen on {host} port {port}: is it taken? Choose another --port.") from ended


class _Server(uvicorn.Server):
    """Says where it listens, once it does."""

    def __init__(self, config: uvicorn.Config, names: Sequence[str]) -> None:
        super().__init__(config)
        self._names = names

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for server in self.servers:
            for listening in server.sockets:
                host, port = listening.getsockname()[:2]
                shown = f"[{host}]" if ":" in host else host
                print(f"Serving {', '.join(self._names)} at http://{shown}:{port}  (Ctrl-C stops)", flush=True)
