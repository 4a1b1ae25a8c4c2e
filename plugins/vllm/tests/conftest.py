"""Tests that run vLLM, on CPUs. `--reference DIR`: what `python -m helpers.vllm_reference DIR` wrote with cuma."""

from __future__ import annotations

import os

os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
# Engines in this process: they start in seconds, and can be looked into.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reference", type=Path, required=True, help="the folder with the cases")
    parser.addoption("--cuma-python", default="python3", help="the Python of the environment with cuma")


@pytest.fixture(scope="session")
def reference(request: pytest.FixtureRequest) -> Path:
    return request.config.getoption("--reference")


@pytest.fixture(scope="session")
def cuma_python(request: pytest.FixtureRequest) -> str:
    return request.config.getoption("--cuma-python")
