"""What every test stands on: two threads, no network, and a cache of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

# Before anything imports torch or huggingface_hub, which read these once. Subprocesses inherit them.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("MKL_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


@pytest.fixture(scope="session", autouse=True)
def cuma_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Profile embeddings are cached for the session, never in the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUMA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
