"""`cuma-vllm serve RUN`: vLLM's server with a run's mixture, as the run's companion describes it."""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cuma_vllm.companion import Companion, command_of
from cuma_vllm.endpoints import COMPANION
from cuma_vllm.errors import CumaVllmError, EngineOptionError
from cuma_vllm.options import engine_options

PLUGINS = ("cuma", "cuma_front")
KEEP_ALIVE_SECONDS = 75
"""How long a connection may be idle, as with `cuma serve`: clients and proxies close it first, and lose no request."""


def main() -> None:
    """Entry point. Errors are one line and status 1."""
    parser = argparse.ArgumentParser(prog="cuma-vllm", description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    serve = verbs.add_parser("serve", help="any further option is vLLM's own (--max-model-len, --max-num-seqs …)")
    serve.add_argument("run", help="a run's folder, or an adapter's")
    serve.add_argument("--cuma-python", default="python3", help="the Python of the environment with cuma")
    serve.add_argument("--encoder", help="the sentence encoder, if the adapter does not say it")
    serve.add_argument("--host", default="127.0.0.1", help="an address that others can reach requires --api-key")
    serve.add_argument("--port", default="8000")
    given, rest = parser.parse_known_args()
    try:
        refuse_open_host(given.host, rest)
        companion = Companion.of(command_of(given.cuma_python, given.run, given.encoder))
        words = server_words(companion, command_of(given.cuma_python, given.run, given.encoder))
    except CumaVllmError as error:
        sys.exit(f"cuma-vllm: {error}")
    others = os.environ.get("VLLM_PLUGINS", "").split(",")
    os.environ["VLLM_PLUGINS"] = ",".join(dict.fromkeys([*PLUGINS, *filter(None, others)]))
    os.environ.setdefault("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", str(KEEP_ALIVE_SECONDS))
    sys.argv = ["cuma-vllm", *words, "--host", given.host, "--port", given.port, *rest]
    from vllm.entrypoints.launchers.api_server.entry import main as serve_forever  # what `vllm serve` runs

    serve_forever()


def server_words(companion: Companion, command: Sequence[str]) -> list[str]:
    """vLLM's options for what a companion describes. Raises EngineOptionError as `engine_options`."""
    hello: dict[str, Any] = companion.hello
    options = engine_options(hello["base"], hello["adapter"])
    template = Path(tempfile.mkdtemp(prefix="cuma-vllm-")) / "chat_template.jinja"
    template.write_text(hello["chat_template"], encoding="utf-8")
    return [
        "--model", options["model"],
        "--served-model-name", hello["name"],
        "--dtype", hello["dtype"],
        "--hf-overrides", json.dumps(options["hf_overrides"]),
        "--additional-config", json.dumps({**options["additional_config"], COMPANION: list(command)}),
        "--chat-template", str(template),
        "--chat-template-content-format", "string",
        "--generation-config", "vllm",  # OpenAI's defaults of sampling, as `cuma serve` has them
        "--disable-uvicorn-access-log",  # it repeats query strings, which are the client's words
    ]  # fmt: skip


def refuse_open_host(host: str, rest: Sequence[str]) -> None:
    """Raise an EngineOptionError for a server that anybody could reach without a key."""
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local and not os.environ.get("VLLM_API_KEY") and not any(word.startswith("--api-key") for word in rest):
        raise EngineOptionError(f"{host} can be reached from other machines: give --api-key, or set VLLM_API_KEY.")


if __name__ == "__main__":
    main()
