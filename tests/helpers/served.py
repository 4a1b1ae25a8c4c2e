"""Models to serve, and a real server on this machine that serves them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
import uvicorn

from cuma.answering.answerer import Answerer, Source
from cuma.models.backbones import Backbone, load_backbone
from cuma.people.encoder import ProfileEncoder
from cuma.recipes.schema import BackboneSection
from cuma.serving.app import build_app
from cuma.serving.engine import Capacity, Engine
from cuma.serving.service import Limits
from helpers.tiny import adapted, llama

CONTEXT = 512
THAI, PERUVIAN = {"age": 55, "religion": "Buddhist", "country": "Thailand"}, {"age": 30, "country": "Peru"}


@cache
def encoder() -> ProfileEncoder:
    return ProfileEncoder.from_pretrained("minilm", cache_dir=False)


@cache
def tokenizer() -> Any:
    """SmolLM2's: real words and a chat template, whatever model is behind them."""
    return load_backbone("smollm2-135m").tokenizer


def tiny_answerer(name: str = "tiny", seed: int = 1, **options: Any) -> Answerer:
    """A random two-layer model with a random mixture over SmolLM2's vocabulary; people matter to it."""
    base = llama(vocab_size=len(tokenizer()), max_position_embeddings=CONTEXT, pad_token_id=None, bos_token_id=None)
    model = adapted(base, seed=seed, **({"profile_dim": encoder().dim, "profile_scale": 20.0} | options))
    model.requires_grad_(False)
    backbone = Backbone(base, tokenizer(), "tiny", "none", None)
    config = model.peft_config["default"]
    source = Source(Path("tiny"), None, BackboneSection(), "router" if config.needs_profile else "prompt")
    return Answerer(name, source, backbone, model, "default", encoder() if config.needs_profile else None)


@contextmanager
def serving(
    answerers: Sequence[Answerer],
    *,
    capacity: Capacity | None = None,
    limits: Limits | None = None,
    keys: Sequence[str] = (),
) -> Iterator[tuple[str, Engine]]:
    """A server in a thread of this process: its address, and its engine to look into."""
    limits = limits or Limits(requests_per_minute=0)
    with Engine(answerers, capacity) as engine:
        app = build_app(engine, limits=limits, keys=keys)
        config = uvicorn.Config(app, port=0, access_log=False, log_level="warning", timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", engine
        finally:
            server.should_exit = True
            thread.join()


def idle(engine: Engine, seconds: float = 20) -> bool:
    """Wait until nothing runs or waits; False if that does not happen."""
    end = time.monotonic() + seconds
    while engine.running or engine.waiting:
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def profile_rows(profiles: Sequence[Any]) -> torch.Tensor:
    """[B, D] what a router reads of these sentences."""
    return encoder()(list(profiles))
