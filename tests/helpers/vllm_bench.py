"""How fast is vLLM with a mixture beside `cuma serve`? Both servers, one session, blocks in turn.

    make vllm-bench                                   # the quickstart's CuMA; wants a machine that does nothing else
    make vllm-bench ARGS="--requests 8 --rounds 1"    # a look

Each server is asked for the same replies at each concurrency; blocks take turns, and `cuma serve` has two blocks a
round, so that A/A shows what the machine itself does. People differ and beginnings are shared. Prints Markdown.
"""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from helpers.load import requests


@dataclass
class Blocks:
    """What one server did at one concurrency."""

    rates: list[float] = field(default_factory=list)
    """Tokens a second, by block."""
    seconds: list[float] = field(default_factory=list)
    """Of each request."""


@contextmanager
def started(name: str, command: list[str], log: Path) -> Iterator[httpx2.Client]:
    """A server on a free port, once it is healthy."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("w") as out:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=out, stderr=subprocess.STDOUT)
        client = httpx2.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=900, limits=httpx2.Limits(max_connections=64)
        )
        try:
            while True:
                if process.poll() is not None:
                    raise SystemExit(f"{name} did not start:\n{log.read_text()[-2000:]}")
                try:
                    if client.get("/health").status_code == 200:
                        break
                except httpx2.TransportError:
                    time.sleep(1)
            yield client
        finally:
            client.close()
            process.terminate()
            process.wait(60)


def block(client: httpx2.Client, bodies: list[dict[str, Any]], concurrency: int, into: Blocks) -> None:
    """All bodies, `concurrency` at once."""

    def ask(body: dict[str, Any]) -> int:
        start = time.perf_counter()
        reply = client.post("/v1/chat/completions", json=body)
        reply.raise_for_status()
        into.seconds.append(time.perf_counter() - start)
        return int(reply.json()["usage"]["completion_tokens"])

    began = time.perf_counter()
    with ThreadPoolExecutor(concurrency) as pool:
        tokens = sum(pool.map(ask, bodies))
    into.rates.append(tokens / (time.perf_counter() - began))
    print(f"{concurrency} at once: {into.rates[-1]:.1f} tokens/s", file=sys.stderr, flush=True)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("run")
    options.add_argument("--vllm", required=True, help="the command cuma-vllm of vLLM's environment")
    options.add_argument("--requests", type=int, default=64)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--max-tokens", type=int, default=24)
    options.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32, 64])
    options.add_argument("--caches", choices=["off", "on"], default="off")
    options.add_argument("--compiled", action="store_true", help="let vLLM compile the model (two minutes more)")
    given = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end as well
    ours = [sys.executable, "-W", "ignore", "-m", "cuma", "serve", given.run, "--requests-per-minute", "0",
            "--max-batch", "64", "--prefix-cache-mb", "0" if given.caches == "off" else "256"]  # fmt: skip
    theirs = [given.vllm, "serve", given.run, "--cuma-python", sys.executable, "--max-num-seqs", "64",
              "--block-size", "32", "--max-model-len", "1024", *([] if given.compiled else ["--enforce-eager"]),
              *(["--no-enable-prefix-caching"] if given.caches == "off" else [])]  # fmt: skip
    bodies = requests(given.requests, 60, given.max_tokens)
    for body in bodies:
        del body["logprobs"], body["top_logprobs"]
    found: dict[tuple[str, int], Blocks] = defaultdict(Blocks)
    with tempfile.TemporaryDirectory() as folder, started("cuma serve", ours, Path(folder) / "a") as one, \
            started("vLLM", theirs, Path(folder) / "b") as two:  # fmt: skip
        servers = {"cuma serve": one, "vLLM": two, "cuma serve again": one}
        for client in (one, two):
            block(client, bodies[:4], 4, Blocks())  # warm
        for _ in range(given.rounds):
            for concurrency in given.concurrency:
                asked = bodies if concurrency > 1 else bodies[: max(4, given.requests // 8)]
                for name, client in servers.items():
                    block(client, asked, concurrency, found[name, concurrency])
    print(table(found, given.concurrency))
    return 0


def table(found: dict[tuple[str, int], Blocks], concurrencies: list[int]) -> str:
    """Medians over blocks, ratios within rounds with the lowest and the highest; the 95th percentile over requests."""
    lines = ["| at once | cuma serve, tokens/s | vLLM | times | A/A | p95 cuma serve | p95 vLLM |",
             "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for number in concurrencies:
        ours, theirs, again = (found[name, number] for name in ("cuma serve", "vLLM", "cuma serve again"))
        p95 = [float(np.quantile(one.seconds, 0.95)) for one in (ours, theirs)]
        lines.append(
            f"| {number} | {np.median(ours.rates):.1f} | {np.median(theirs.rates):.1f} | {ratio(theirs, ours)} "
            f"| {ratio(again, ours)} | {p95[0]:.1f} s | {p95[1]:.1f} s |"
        )
    return "\n".join(lines)


def ratio(one: Blocks, other: Blocks) -> str:
    """How many times the other's tokens a second: the median round, and the range of rounds."""
    times = np.array(one.rates) / np.array(other.rates)
    return f"{np.median(times):.2f} [{times.min():.2f}, {times.max():.2f}]"


if __name__ == "__main__":
    sys.exit(main())
