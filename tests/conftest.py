"""What every test stands on: two cores, no network, and a cache of the session's own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

pytest_plugins = ("helpers.browser",)

# Before anything imports torch or huggingface_hub, which read these once. Subprocesses inherit them.
# A worker of pytest-xdist is one of several, and takes one core.
WORKER = os.environ.get("PYTEST_XDIST_WORKER")
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1" if WORKER else "2"
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # what is expected bit by bit is what CPUs compute
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
LONG = ("training", "invariant", "packaging", "recipes", "evaluation", "data")
"""Folders whose files take longest, the longest first."""


@pytest.fixture(scope="session", autouse=True)
def cuma_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What cuma caches is kept for the session, shared by its workers, and never in the user's home."""
    base = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUMA_CACHE", str((base.parent if WORKER else base) / "cache"))
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes begin first, so that no worker still has one when the others are done."""
    place = {folder: number for number, folder in enumerate(LONG)}
    items.sort(key=lambda item: min((place.get(part, len(LONG)) for part in item.path.parts), default=0))
