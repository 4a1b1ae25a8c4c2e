"""A real server, as users start it, and what its log says."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

KEY = "a-key-for-tests-only"


@dataclass
class Server:
    """Where it listens."""

    client: httpx.Client
    log: Path

    def metric(self, name: str) -> float:
        """The sum of a gauge or counter over its labels."""
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{"))

    def idle(self, seconds: float = 60) -> bool:
        """Whether nothing runs, waits, or holds a block within some time."""
        end = time.monotonic() + seconds
        names = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")
        while any(self.metric(name) for name in names):
            if time.monotonic() > end:
                return False
            time.sleep(0.2)
        return True


@contextmanager
def serving(run: Path, cuma_python: str, log: Path, *options: str) -> Iterator[Server]:
    """`cuma-vllm serve RUN` until the context ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "cuma_vllm.serve", "serve", str(run), "--cuma-python", cuma_python, "--port", str(port),
        "--api-key", KEY, "--enforce-eager", *options,
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=environment | {"VLLM_LOGGING_LEVEL": "DEBUG"}
        )
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {KEY}"}, timeout=300
        )
        try:
            _wait(client, process, log)
            yield Server(client, log)
        finally:
            client.close()
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    while True:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            if client.get("/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.5)
